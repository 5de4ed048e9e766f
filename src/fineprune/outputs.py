"""Outputs that are whole or not there: each appears by one rename, and has one writer at a time."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fineprune.errors import ConfigError
from fineprune.files import remove, sync

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def whole_outputs(targets: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Give a scratch path for each target and put all of them in place when the block succeeds.

    A target may become a file or a folder. While the block runs, and when it fails or is killed,
    the old targets stay as they were. The new ones take their places one after the other, each
    in one step. Leftovers of a killed run are removed by the next one.

    Raises:
        ConfigError: another process is writing one of them.
    """
    scratch = {name: path.parent / f".{path.name}.partial" for name, path in targets.items()}
    with ExitStack() as held:
        for path in targets.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(_only_writer(path))
        for name, path in targets.items():
            remove(scratch[name])
            if _aside(path).exists() and not path.exists():
                os.rename(_aside(path), path)
        try:
            yield scratch
            for path in scratch.values():
                sync(path)
            for name, path in targets.items():
                _put_in_place(scratch[name], path)
        finally:
            for path in scratch.values():
                remove(path)


@contextmanager
def _only_writer(target: Path) -> Iterator[None]:
    """Be the only one that writes a target; the system lets go of it when the process ends.

    Where the file system has no locks nothing is held.
    """
    file = target.parent / f".{target.name}.lock"
    while True:
        with open(file, "w", opener=_no_link) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"{target}: expected to be the only one to write it, found another"
                ) from error
            except OSError:
                pass
            if not _is_at(file, handle.fileno()):  # its last holder removed it since we opened it
                continue
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
            return


def _no_link(path: str, flags: int) -> int:
    """Open a file without emptying it, and nothing that a link leads to."""
    return os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW, 0o666)


def _is_at(path: Path, opened: int) -> bool:
    """Whether an open file is still the one at that path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False


def _put_in_place(scratch: Path, target: Path) -> None:
    """Rename ``scratch`` to ``target``; where a folder is in the way, swap the two in one step."""
    if not target.is_dir():
        os.replace(scratch, target)
    elif not _exchange(scratch, target):
        remove(_aside(target))
        os.rename(target, _aside(target))
        os.rename(scratch, target)
        remove(_aside(target))


def _aside(target: Path) -> Path:
    """Where an old folder waits while the new one takes its place, if the two cannot be swapped."""
    return target.parent / f".{target.name}.old"


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically (Linux ``renameat2``); False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)
