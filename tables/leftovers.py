"""What a killed run leaves behind: its processes go on, and would write where the next run writes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from fineprune.errors import ConfigError

MARK = "FINEPRUNE_TABLES_OF"
"""The variable by which the processes of a run are known: the repository that they work in."""
_PATIENCE = 10  # seconds until a killed process is gone


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Be the only run of a repository; the system lets go of the file when the process ends.

    Raises:
        ConfigError: another run holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{file}: another `python -m tables` is at work here") from error
        yield


def end_leftovers(root: Path) -> int:
    """End the processes that a killed run started in this repository; gives how many there were.

    Without ``/proc`` none is found.
    """
    mark = f"{MARK}={root}".encode()
    found = [int(process.name) for process in Path("/proc").glob("[0-9]*") if mark in _environment(process)]
    for number in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE
    while any(_environment(Path("/proc") / str(number)) for number in found) and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(found)


def mend_locks(file: Path) -> bool:
    """Remove DVC's record of who reads and writes what if it is damaged, after which no DVC runs; True if so.

    DVC writes it in place, as dvc.lock; with nothing at work it has nothing to say.
    """
    try:
        json.loads(file.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        file.unlink()
        return True
    return False


def _environment(process: Path) -> list[bytes]:
    """``NAME=value`` of a process; nothing of one that has ended, or that nobody may look into."""
    try:
        return (process / "environ").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []
