"""A ``fineprune`` that starts at once: each call is a fresh process, forked from one that has torch imported.

Importing torch and MLflow takes longer than any stage of these tests. The process that waits never
computes; what it forks runs the same ``fineprune.cli.main`` as the console script, in the caller's
folder, with its environment and its stdout and stderr. ``FINEPRUNE_TEST_FAULT`` names what shall go
wrong in it (see :func:`_arm`).
"""

import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FAULT = "FINEPRUNE_TEST_FAULT"
PRELOADED = (
    *(
        f"fineprune.stages.{name}"
        for name in ("ingest", "attack", "prune", "finetune", "evaluate", "promote")
    ),
    "fineprune.data.readers.digits",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.datasets",
    "torch._dynamo",
    "torch.export._trace",
)
PROGRAM = """#!{python} -IS
import json, os, socket, sys
call = json.dumps({{"argv": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    socket.send_fds(line, [len(call).to_bytes(8, "big")], [1, 2])
    line.sendall(call)
    code = int.from_bytes(line.recv(4), "big", signed=True)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Warm:
    """Where the program ``fineprune`` lies that asks the waiting process to fork."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self, **more: str) -> dict[str, str]:
        """The caller's environment with this ``fineprune`` first on the PATH."""
        return {**os.environ, "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}", **more}

    def run(
        self, argv: Sequence[str], *, folder: Path, fault: Mapping[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one stage; a negative return code is the signal that ended it."""
        more = {FAULT: json.dumps(fault)} if fault else {}
        return subprocess.run(
            [self.folder / "fineprune", *argv],
            cwd=folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=120,
        )


@contextmanager
def warm_fineprune() -> Iterator[Warm]:
    """Start the waiting process for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="warm-") as name:
        folder, address = Path(name), str(Path(name) / "socket")
        program = folder / "fineprune"
        program.write_text(PROGRAM.format(python=sys.executable, address=address))
        program.chmod(0o755)
        with (folder / "log").open("wb") as log:
            waiting = subprocess.Popen(
                [sys.executable, __file__, address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "TMPDIR": name},  # a stage that is killed leaves its temporary files there
                start_new_session=True,
            )
        try:
            assert waiting.stdout is not None
            if waiting.stdout.readline() != b"ready\n":
                raise RuntimeError((folder / "log").read_text())
            yield Warm(folder)
        finally:
            os.killpg(waiting.pid, signal.SIGKILL)
            waiting.communicate()


def serve(address: str) -> None:
    """Answer calls one at a time until stdin is closed."""
    for name in PRELOADED:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            caller, _ = listener.accept()
            with caller:
                head, handles, _, _ = socket.recv_fds(caller, 8, 2)
                call = json.loads(_receive(caller, int.from_bytes(head, "big")))
                child = os.fork()
                if not child:
                    listener.close()
                    _become(call, handles)
                for handle in handles:
                    os.close(handle)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                caller.sendall(code.to_bytes(4, "big", signed=True))


def _receive(caller: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += caller.recv(size - len(data))
    return data


def _become(call: Mapping[str, Any], handles: Sequence[int]) -> None:
    """Be the called program: it ends here, whatever happens."""
    code = 70
    try:
        for target, handle in enumerate(handles, start=1):
            os.dup2(handle, target)
        os.chdir(call["folder"])
        os.environ.clear()
        os.environ.update(call["environment"])
        _arm(json.loads(os.environ.get(FAULT, "{}")))
        from fineprune.cli import main

        code = main(call["argv"])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _arm(fault: Mapping[str, Any]) -> None:
    """Prepare a fault.

    ``{"file_size": n}``: no file can grow beyond n bytes, as on a full disk.
    ``{"kill": "while writing"}``: SIGKILL when half of the first card or report is written.
    ``{"kill": "before the outputs appear"}``: SIGKILL when everything is written, nothing in place.
    ``{"kill": "between two outputs"}``: SIGKILL when the first output is in place.
    """
    if "file_size" in fault:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["file_size"],) * 2)
    if fault.get("kill") == "while writing":

        def write_half(path: Path, text: str, **options: Any) -> None:
            with path.open("w", encoding="utf-8") as file:
                file.write(text[: len(text) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        Path.write_text = write_half  # type: ignore[method-assign,assignment]
    elif "kill" in fault:
        from fineprune import outputs

        left = {"before the outputs appear": 0, "between two outputs": 1}[fault["kill"]]
        really = outputs._put_in_place

        def put_in_place(scratch: Path, target: Path) -> None:
            nonlocal left
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            really(scratch, target)

        outputs._put_in_place = put_in_place


if __name__ == "__main__":
    serve(sys.argv[1])
