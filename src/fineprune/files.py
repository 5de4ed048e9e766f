"""Files that are whole or not there: digests, JSON, and outputs that appear by one rename."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from fineprune.errors import ConfigError, DataError, FinePruneError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hex digits."""
    return _hash(path, hashlib.sha256)


def dvc_md5(path: Path) -> str:
    """The md5 that DVC 3 records for a file or a folder (``….dir`` for a folder).

    A folder's is the md5 of the JSON list of its files' md5s and relative paths, sorted by path
    (dvc-data, ``hashfile/tree.py``); what belongs to git, Mercurial or DVC itself is not among them (dvc,
    ``ignore.py``).
    """
    if path.is_file():
        return _hash(path, lambda: hashlib.md5(usedforsecurity=False))
    files = {file.relative_to(path): file for file in below(path) if file.is_file()}
    return dvc_folder_md5(
        {place.as_posix(): dvc_md5(file) for place, file in files.items() if not _of_a_repository(place)}
    )


def dvc_folder_md5(members: Mapping[str, str]) -> str:
    """The md5 that DVC 3 records for a folder, from its files' md5s by their relative paths."""
    entries = [{"md5": md5, "relpath": path} for path, md5 in sorted(members.items())]
    return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _of_a_repository(place: PurePath) -> bool:
    return ".git" in place.parts or not {".hg", ".dvc"}.isdisjoint(place.parts[:-1])


def stays_inside(path: str | PurePosixPath) -> bool:
    """Whether a path that is not trusted leads to the folder that it starts from, or below it."""
    place = PurePosixPath(path)
    return str(path) != "" and not place.is_absolute() and ".." not in place.parts and "\0" not in str(path)


def hidden(place: PurePath) -> bool:
    """Whether a relative path is no data: ``._name.jpg`` from macOS, what is in ``.ipynb_checkpoints``."""
    return any(part.startswith(".") for part in place.parts)


def below(folder: Path) -> Iterator[Path]:
    """Every path below a folder; links to folders are among them and are not followed.

    Raises:
        OSError: a folder cannot be read, which ``Path.rglob`` would pass by.
    """

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail):
        yield from (Path(place, name) for name in (*folders, *files))


def read_json(path: Path, error: type[FinePruneError] = DataError) -> Any:
    """The content of a JSON file.

    Raises:
        error: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise error(f"{path}: cannot read: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise error(f"{path}: not valid JSON: {fault}") from fault


def as_mapping(value: object) -> Mapping[str, Any]:
    """A value of a file whose content is not trusted, if it is a mapping; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as strict JSON (NaN is refused) with sorted keys."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def check_digest(path: Path, expected: str, error: type[FinePruneError] = DataError) -> None:
    """Raise ``error`` unless the file's SHA-256 is ``expected``."""
    if path.exists() and not path.is_file():
        raise error(f"{path}: expected a regular file, found another kind")
    try:
        found = sha256(path)
    except OSError as fault:
        raise error(f"{path}: cannot read: {fault.strerror}") from fault
    if found != expected:
        raise error(f"{path}: digest mismatch: expected sha256 {expected[:16]}…, found {found[:16]}…")


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


def remove(path: Path) -> None:
    """Remove a file or a folder; nothing happens if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _hash(path: Path, kind: Callable[[], Any]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder's files to disk; one that was never written is an error here."""
    for file in [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


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
