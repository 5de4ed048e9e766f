"""A program that runs on in the background: started, waited for, ended with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

HOST = "127.0.0.1"
_PATIENCE = 120  # seconds until a service must answer
_GRACE = 30  # seconds that a service has to end by itself


class StackError(Exception):
    """The stack cannot be started."""


@dataclass(frozen=True)
class Service:
    """A program that runs on in the background, in a process group of its own.

    Its log lies in the folder under its name, and what it runs as: its pid and its command line.

    Attributes:
        folder: of the log and of its own files.
        argv: the program with its arguments.
        environment: variables that it gets beside ours.
        port: that it listens on.
        flag: what sets that port.
        answers: whether it is up.
    """

    folder: Path
    argv: Sequence[str]
    environment: Mapping[str, str]
    port: int
    flag: str
    answers: Callable[[], bool]

    @property
    def name(self) -> str:
        """Of the program."""
        return Path(self.argv[0]).name

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers.

        Raises:
            StackError: its port is taken, or it ends, or it does not answer in time.
        """
        process = None
        if self._pid() is None:
            check_free(self.port, self.flag)
            with self._log.open("wb") as log:
                process = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self.environment},
                    cwd=self.folder,
                    start_new_session=True,
                )
            told = {"pid": process.pid, "argv": list(self.argv)}
            self._pid_file.write_text(json.dumps(told), encoding="utf-8")
        started = time.monotonic()
        while not self.answers():
            ended = process is not None and process.poll() is not None
            if ended or time.monotonic() - started > _PATIENCE:
                last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
                said = " ".join(last) or "no word of it"
                raise StackError(f"{self.name} does not come up: {said} ({self._log})")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it and what it started; nothing happens unless it runs.

        Raises:
            StackError: it does not end, not even by force.
        """
        if (pid := self._pid()) is not None:
            for signum in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signum)
                if _ends(pid, _GRACE):
                    break
            else:
                raise StackError(f"{self.name} does not end (process {pid})")
        self._pid_file.unlink(missing_ok=True)

    def _pid(self) -> int | None:
        """The process, unless it ended and the number is another's by now."""
        try:
            told = json.loads(self._pid_file.read_text(encoding="utf-8"))
            pid, argv = int(told["pid"]), list(told["argv"])
            command = psutil.Process(pid).cmdline()
            leads = os.getpgid(pid) == pid
        except (OSError, ValueError, LookupError, TypeError, psutil.Error):
            return None
        # An interpreter stands before the name of a script.
        return pid if leads and command[-len(argv) :] == argv else None

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"


def _ends(group: int, seconds: float) -> bool:
    """Whether a process group is gone in time; one of its processes may be our own child."""
    deadline = time.monotonic() + seconds
    while _lives(group):
        if time.monotonic() > deadline:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(group, os.WNOHANG)
        time.sleep(0.1)
    return True


def _lives(group: int) -> bool:
    """Whether a process of the group runs; one that has ended and was not asked for does not."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def check_free(port: int, flag: str) -> None:
    """Raise :class:`StackError` if somebody listens there; ``flag`` sets another port."""
    if accepts(port):
        raise StackError(f"port {port} is taken: say {flag} with another")


def accepts(port: int) -> bool:
    """Whether somebody listens on that port of this machine."""
    with socket.socket() as caller:
        caller.settimeout(2)
        return caller.connect_ex((HOST, port)) == 0


def healthy(url: str) -> bool:
    """Whether the address answers that all is well."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except OSError:
        return False
