"""An MLflow server with its runs in PostgreSQL and its artifacts in an S3 store, on this machine alone.

``python docker/stack.py start`` runs ``compose.yaml`` where its images can be had; elsewhere the same three
programs from packages: Debian's PostgreSQL, MLflow from this environment, ``rclone serve s3``. Starting what
runs already changes nothing. ``env`` prints what a client needs, ``stop`` leaves the data in the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pwd
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from commands import output
from images import image
from service import HOST, Service, StackError, accepts, check_free, healthy

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".stack"
BUCKET = "mlflow"
SERVER = image("mlflow")
PORTS = ("MLFLOW_PORT", "POSTGRES_PORT", "S3_PORT")
# rclone answers a ranged GET with the checksum of the whole object.
CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


def main() -> int:
    """Run one command; returns 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(description="MLflow with PostgreSQL and an S3 store, on this machine.")
    parser.add_argument("command", choices=("start", "stop", "env"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of data, logs and secrets")
    parser.add_argument("--how", choices=("compose", "packages"), help="default: compose where it can")
    for port in PORTS:
        parser.add_argument(_flag(port), type=int, help="default: a free one, kept from then on")
    given = parser.parse_args()
    try:
        stack = Stack(given.folder.absolute(), {port: getattr(given, port.lower()) for port in PORTS})
        if given.command == "start":
            stack.start(given.how)
            print(stack)
        elif not stack.known:
            raise StackError(f"{given.folder}: nothing was started from here")
        elif given.command == "stop":
            stack.stop()
        else:
            print(stack.exports())
    except (StackError, OSError) as error:
        print(f"stack: error: {error}", file=sys.stderr)
        return 1
    return 0


class Stack:
    """The three services of a folder.

    Args:
        folder: of data, logs, and ``state.json`` with ports and secrets, which only its owner can read.
        ports: that shall be used from now on; None for those of before, or free ones.
    """

    def __init__(self, folder: Path, ports: Mapping[str, int | None]) -> None:
        self._folder = folder
        self._file = folder / "state.json"
        try:
            known = json.loads(self._file.read_text(encoding="utf-8")) if self.known else {}
        except ValueError as error:
            raise StackError(f"{self._file}: expected the passwords as JSON, found {error}") from error
        free = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._state: dict[str, str] = {
            **{port: str(given or known.get(port) or free[port]) for port, given in ports.items()},
            **{
                name: known.get(name) or secrets.token_hex(16)
                for name in ("POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            },
            "how": known.get("how", ""),
        }
        self._moved = bool(known) and any(self._state[port] != known.get(port) for port in PORTS)

    @property
    def known(self) -> bool:
        """Whether it was started before."""
        return self._file.exists()

    def __str__(self) -> str:
        addresses = f"MLflow {self._address('MLFLOW_PORT')}, S3 {self._address('S3_PORT')}"
        return f'{addresses}; for a client: eval "$(python docker/stack.py env --folder {self._folder})"'

    def exports(self) -> str:
        """The environment of a client, for ``eval``. To MLflow alone a client needs no key of the store."""
        values = {"MLFLOW_TRACKING_URI": self._address("MLFLOW_PORT"), **self._s3()}
        return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())

    def start(self, how: str | None) -> None:
        """Start what does not run yet, all of it anew on another port, and wait until everything answers.

        Raises:
            StackError: a program is missing, a port is taken, or a service does not come up.
        """
        if self._moved:
            self.stop()
        self._state["how"] = how or self._state["how"] or ("compose" if self._can_compose() else "packages")
        self._folder.mkdir(parents=True, exist_ok=True)
        _write_private(self._file, json.dumps(self._state, indent=1))
        if self._state["how"] == "compose":
            # What the engine would make for its containers would be root's.
            for name in ("postgres", "objects"):
                (self._folder / "compose" / name).mkdir(parents=True, exist_ok=True)
            _checked("docker compose", self._compose("up", "--detach", "--wait"), self._variables())
            return
        self._start_postgres()
        for service in self._services():
            service.start()

    def stop(self) -> None:
        """Stop what runs; the data stays."""
        if self._state["how"] == "compose":
            _checked("docker compose", self._compose("down"), self._variables())
            return
        if not self._initialised:  # PostgreSQL is the first to start; its programs need not be there
            return
        for service in reversed(self._services()):
            service.stop()
        if self._postgres_runs():
            _checked("pg_ctl", self._pg_ctl("stop", "--mode=fast"))

    def _services(self) -> list[Service]:
        """The programs beside PostgreSQL, in the order in which they start."""
        objects = self._folder / "objects"
        (objects / BUCKET).mkdir(parents=True, exist_ok=True)
        password, port = self._state["POSTGRES_PASSWORD"], self._state["POSTGRES_PORT"]
        at_s3, at_mlflow = self._state["S3_PORT"], self._state["MLFLOW_PORT"]
        pair = f"{self._state['AWS_ACCESS_KEY_ID']},{self._state['AWS_SECRET_ACCESS_KEY']}"
        return [
            Service(
                folder=self._folder,
                argv=[_program("rclone"), "serve", "s3", "--addr", f"{HOST}:{at_s3}", str(objects)],
                environment={"RCLONE_AUTH_KEY": f'"{pair}"', "RCLONE_CONFIG": "/dev/null"},
                port=int(at_s3),
                flag=_flag("S3_PORT"),
                answers=lambda: accepts(int(at_s3)),
            ),
            Service(
                folder=self._folder,
                argv=[_program("mlflow"), "server", "--host", HOST, "--port", at_mlflow, "--workers", "1"],
                environment={
                    **self._s3(),
                    "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://fineprune:{password}@{HOST}:{port}/postgres",
                    "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}",
                    "MLFLOW_S3_ENDPOINT_URL": self._address("S3_PORT"),
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                },
                port=int(at_mlflow),
                flag=_flag("MLFLOW_PORT"),
                answers=lambda: healthy(f"{self._address('MLFLOW_PORT')}/health"),
            ),
        ]

    def _can_compose(self) -> bool:
        """Whether there is compose, the server's image is built and the others can be had."""
        there = (self._compose("version"), ["docker", "image", "inspect", SERVER], self._compose("pull"))
        return bool(shutil.which("docker")) and all(
            _run(command, self._variables()).returncode == 0 for command in there
        )

    def _start_postgres(self) -> None:
        data, port = self._folder / "postgres", self._state["POSTGRES_PORT"]
        if not self._postgres_runs():
            check_free(int(port), _flag("POSTGRES_PORT"))
            if not self._initialised:
                self._init_postgres(data)
            flags = f"-p {port} -c listen_addresses={HOST} -c unix_socket_directories=''"
            log = data / "log"
            _checked("pg_ctl", self._pg_ctl("start", "--wait", f"--log={log}", f"--options={flags}"))

    def _init_postgres(self, data: Path) -> None:
        data.mkdir(exist_ok=True)
        words = self._folder / "password"
        _write_private(words, self._state["POSTGRES_PASSWORD"])
        if os.geteuid() == 0:
            for path in (data, words):
                shutil.chown(path, "postgres", "postgres")
        flags = ("--username=fineprune", "--auth=scram-sha-256", f"--pwfile={words}", "--encoding=UTF8")
        try:
            _checked("initdb", [*_as_postgres(), _postgres("initdb"), f"--pgdata={data}", *flags])
        finally:
            words.unlink()

    @property
    def _initialised(self) -> bool:
        return (self._folder / "postgres" / "PG_VERSION").exists()

    def _postgres_runs(self) -> bool:
        return _run(self._pg_ctl("status")).returncode == 0

    def _pg_ctl(self, *arguments: str) -> list[str]:
        return [*_as_postgres(), _postgres("pg_ctl"), f"--pgdata={self._folder / 'postgres'}", *arguments]

    def _address(self, port: str) -> str:
        return f"http://{HOST}:{self._state[port]}"

    def _s3(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self._address("S3_PORT"),
            "AWS_ACCESS_KEY_ID": self._state["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": self._state["AWS_SECRET_ACCESS_KEY"],
            "AWS_DEFAULT_REGION": "us-east-1",
            **CHECKSUMS,
        }

    def _variables(self) -> dict[str, str]:
        # An engine without root knows the caller as root.
        rootless = "name=rootless" in output(["docker", "info", "--format", "{{.SecurityOptions}}"])
        user = "0:0" if rootless else f"{os.geteuid()}:{os.getegid()}"
        return {**self._state, "MLFLOW_IMAGE": SERVER, "FOLDER": str(self._folder), "OWNER": user}

    def _compose(self, *arguments: str) -> list[str]:
        """A command of compose, in a project of the folder's own."""
        project = f"fineprune-{hashlib.sha256(str(self._folder).encode()).hexdigest()[:8]}"
        return [
            *("docker", "compose", f"--project-name={project}", f"--file={HERE / 'compose.yaml'}"),
            *arguments,
        ]


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root: then its package's user runs it."""
    if os.geteuid():
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise StackError("no user postgres: apt-get install postgresql") from None
    return [_program("setpriv"), "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


def _postgres(program: str) -> str:
    """A program of PostgreSQL; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if not found and (path := shutil.which(program)):
        found = [Path(path)]
    if not found:
        raise StackError(f"no {program}: apt-get install postgresql")
    return str(found[-1])


def _program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise StackError(f"no program {name}: pip install -r requirements.lock")
    return found


def _checked(name: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    done = _run(command, more)
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise StackError(f"{name}: {' '.join(said[-2:]) or f'exit code {done.returncode}'}")


def _run(command: Sequence[str], more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    # A server that goes on in the background must not hold this program's output open.
    given = {**os.environ, **(more or {})}
    return subprocess.run(
        command, env=given, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd="/"
    )


def _write_private(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(aside, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    aside.rename(path)


def free_ports(number: int) -> list[int]:
    """Different ports that nobody listens on, held together while they are looked for."""
    with contextlib.ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(number)]
        for listener in listeners:
            listener.bind((HOST, 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


def _flag(port: str) -> str:
    return f"--{port.lower().replace('_', '-')}"


if __name__ == "__main__":
    sys.exit(main())
