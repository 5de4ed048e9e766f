"""Digests of files and folders: ours, SHA-256, and those that DVC records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

from fineprune.errors import DataError, FinePruneError
from fineprune.files import below


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hex digits."""
    return _hash(path, hashlib.sha256)


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


def dvc_md5(path: Path) -> str:
    """The md5 that DVC 3 records for a file or a folder (``….dir`` for a folder).

    A folder's is the md5 of the JSON list of its files' md5s and relative paths, sorted by path
    (dvc-data, ``hashfile/tree.py``); what belongs to git, Mercurial or DVC itself is not among them (dvc,
    ``ignore.py``). What a ``.dvcignore`` leaves out is, so that the md5 of such a folder is another.
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


def _hash(path: Path, kind: Callable[[], Any]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
