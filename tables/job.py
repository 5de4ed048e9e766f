"""One run of DVC over the steps of a cell: what begins and ends, and a log for each step."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tables.dvc_output import Doing, begun, cause, doing, is_busy, refused, skipped
from tables.profiles import Step

# One item after the other and not as a graph: to look whether an upstream stage has changed DVC would take a
# write lock on the dataset that other cells are reading.
REPRO = ("dvc", "--wait-for-lock", "repro", "--single-item")
_TRIES, _PAUSE = 5, 2.0  # seconds
_TIDYING = 10.0  # seconds for a stage to end by itself


@dataclass(frozen=True)
class Failure:
    """A step that ended badly: where, why, and the file that says more, if there is one."""

    where: str
    step: str
    cause: str
    log: Path | None

    def __str__(self) -> str:
        return f"{self.where}: {self.step}: {self.cause}" + (f" (log: {self.log})" if self.log else "")


class Job:
    """The steps of one cell, or of one case's ingest, in a process of their own.

    ``failure`` says why it ended badly, ``doing`` how far the step is that is being run; None before that.

    Args:
        where: what to call it: ``faces, baseline, seed 0``.
        steps: what to run, in this order.
        pipeline: the dvc.yaml that has them, from the repository's root.
        logs: the folder for its logs.
        root: the repository.
        environment: of the process.
        tell: called from the job's thread with itself, what happened (``begun``, ``skipped``, ``done``,
            ``failed``, ``ended``), the step, and the core seconds that the job has used so far.
    """

    def __init__(
        self,
        where: str,
        steps: Sequence[Step],
        *,
        pipeline: str,
        logs: Path,
        root: Path,
        environment: Mapping[str, str],
        tell: Callable[[Job, str, Step | None, float], None],
    ) -> None:
        self.where, self.steps = where, steps
        self.failure: Failure | None = None
        self.doing: Doing | None = None
        self._pipeline, self._logs, self._root, self._environment = pipeline, logs, root, environment
        self._tell = tell
        self._left = {step.target: step for step in steps}
        self._process: subprocess.Popen[str] | None = None
        self._stopped, self._patience_until = False, 0.0
        self._starting = threading.Lock()  # nothing is started once the job is stopped
        self._used = self._before = 0.0  # core seconds, of all processes and of those before this one
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended = threading.Event()  # a thread that one was interrupted in waiting for passes for ended

    def start(self) -> None:
        """Begin; everything else is told."""
        self._thread.start()

    def end(self) -> None:
        """Tell DVC and the stage that it runs to end, which may tidy up first."""
        with self._starting:
            self._stopped = True
        self._patience_until = time.monotonic() + _TIDYING
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """Wait for what was told to end, and kill it if it does not."""
        try:
            self._ended.wait(max(0.0, self._patience_until - time.monotonic()))
        finally:
            if not self._ended.is_set():
                self._signal(signal.SIGKILL)
                self._ended.wait()

    def _signal(self, number: int) -> None:
        if self._process is not None and not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _run(self) -> None:
        try:
            for _ in range(_TRIES):
                if not self._once():
                    break
                time.sleep(_PAUSE)
            else:
                why = f"another DVC held its lock, {_TRIES} times over"
                self.failure = Failure(self.where, "dvc", why, self._told_path(self._logs / "dvc.log"))
                self._say("failed", self.steps[0])
        except OSError as error:  # there is no dvc
            self.failure = Failure(self.where, "dvc", str(error), None)
            self._say("failed", self.steps[0])
        finally:
            self._ended.set()
            self._tell(self, "ended", None, 0.0)

    def _once(self) -> bool:
        """Run DVC; True where another DVC was in its way, so that it is worth another try."""
        with self._starting:
            if self._stopped:
                return False
            self._process = self._launch()
        assert self._process.stdout is not None
        with _Logs(self._logs) as logs:
            step = self._follow(self._process.stdout, logs)
            self._used = self._before = self._before + _core_seconds(self._process.pid)
            code = self._process.wait()
            if code == 0:
                if step is not None:
                    self._say("done", step)
                return False
            if is_busy(logs.tail):
                return True
            told = self._named(refused(logs.tail))
            if step is not None and told not in (None, step):  # that one is done, and this never began
                self._say("done", step)
            failed = told or step or self.steps[0]
            why = f"DVC was ended by {signal.Signals(-code).name}" if code < 0 else cause(logs.tail)
            self.failure = Failure(self.where, failed.label, why, self._told_path(logs.path))
            self._say("failed", failed)
            return False

    def _launch(self) -> subprocess.Popen[str]:
        targets = [f"{self._pipeline}:{target}" for target in self._left]
        return subprocess.Popen(  # noqa: S603 - targets are of our own dvc.yaml
            [*REPRO, *targets],
            cwd=self._root,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def _follow(self, lines: IO[str], logs: _Logs) -> Step | None:
        """Read until the process closes its output; gives the step that was then being run."""
        step: Step | None = None
        for line in lines:
            begins, unchanged = self._named(begun(line)), self._named(skipped(line))
            if begins or unchanged:
                assert self._process is not None
                self._used = self._before + _core_seconds(self._process.pid)
                if step is not None:
                    self._say("done", step)
                step, self.doing = begins, None
                logs.turn(step.label if step else "dvc")
                if begins:
                    self._say("begun", begins)
                elif unchanged:
                    self._say("skipped", unchanged)
            self.doing = doing(line) or self.doing
            logs.write(line)
        return step

    def _say(self, event: str, step: Step) -> None:
        if event in ("done", "skipped"):
            del self._left[step.target]
        self._tell(self, event, step, self._used)

    def _told_path(self, log: Path) -> Path:
        return log.relative_to(self._root) if log.is_relative_to(self._root) else log

    def _named(self, target: str | None) -> Step | None:
        """The step of a target, if it is one that is left."""
        return None if target is None else self._left.get(target)


class _Logs:
    """The logs of a job: what is printed goes to the file of the step that is being run.

    Where one cannot be written the job goes on without it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None
        self.tail: list[str] = []
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self.turn("dvc")

    def __enter__(self) -> _Logs:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def turn(self, name: str) -> None:
        """Go on in another file, which begins anew."""
        self.__exit__()
        self.path, self.tail = self._folder / f"{name}.log", []
        with contextlib.suppress(OSError):
            self._file = self.path.open("w", encoding="utf-8")

    def write(self, line: str) -> None:
        """Add a line."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(line)
                self._file.flush()
        self.tail = [*self.tail[-99:], line]


def _core_seconds(process: int) -> float:
    """Core time of a process and of those that it has waited for; 0 where there is no ``/proc``."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def environment(threads: int, **more: str) -> dict[str, Any]:
    """The caller's environment, for a job that may use so many threads."""
    quiet = {"DVC_NO_ANALYTICS": "true", "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **quiet, **more}
