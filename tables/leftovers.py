"""What a killed run leaves behind: its processes go on, and would write where the next run writes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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


def mend_locks(file: Path, pipeline: str) -> bool:
    """Mend DVC's record of who reads and writes what, with nothing at work; True if it had to be removed.

    DVC writes it in place, as dvc.lock, and does not run where it is damaged. A DVC that was ended is still
    in it, and holds its locks again once its number is another process's.

    Args:
        file: ``rwlock``.
        pipeline: the dvc.yaml whose runs are taken out, as it stands in DVC's command line.
    """
    try:
        held = json.loads(file.read_bytes())
        left = {mode: _without(pipeline, entries) for mode, entries in held.items()}
    except FileNotFoundError:
        return False
    except (ValueError, AttributeError, TypeError, KeyError):
        file.unlink()
        return True
    if left != held:
        aside = file.with_name(f"{file.name}.new")
        aside.write_text(json.dumps(left), encoding="utf-8")
        aside.replace(file)
    return False


def _without(pipeline: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The paths that are locked, and by whom: one that writes, or several that read."""
    left: dict[str, Any] = {}
    for path, held in entries.items():
        several = held if isinstance(held, list) else [held]
        if others := [one for one in several if f"{pipeline}:" not in one["cmd"]]:
            left[path] = others if isinstance(held, list) else held
    return left


def _environment(process: Path) -> list[bytes]:
    """``NAME=value`` of a process; nothing of one that has ended, or that nobody may look into."""
    try:
        return (process / "environ").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []
