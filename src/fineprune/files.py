"""JSON files, paths that are not trusted, and what is asked of a file and a folder alike."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from fineprune.errors import DataError, FinePruneError


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


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as strict JSON (NaN is refused) with sorted keys."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def as_mapping(value: object) -> Mapping[str, Any]:
    """A value of a file whose content is not trusted, if it is a mapping; else an empty one."""
    return value if isinstance(value, Mapping) else {}


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


def remove(path: Path) -> None:
    """Remove a file or a folder; nothing happens if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder's files to disk; one that was never written is an error here."""
    for file in [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
