"""What tables, annotations and options name: each thing once, and files below the data's folder."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path

from fineprune.errors import DataError, excerpt
from fineprune.files import stays_inside


def check_once(kind: str, named: Iterable[tuple[Hashable, object]]) -> None:
    """Refuse things that are named twice; each comes with the place that names it.

    Raises:
        DataError: one is.
    """
    first: dict[Hashable, object] = {}
    for thing, where in named:
        if thing in first:
            raise DataError(f"{where}: expected each {kind} once, {thing} is at {first[thing]} too")
        first[thing] = where


def inside(folder: Path, name: str, where: str) -> Path:
    """The file or folder below ``folder`` that a table or an option names.

    Raises:
        DataError: the name is empty, leads out of the folder, or is none that a path can have.
    """
    if not stays_inside(name):
        raise DataError(f"{where}: expected a path below {folder}, found {excerpt(name)}")
    return folder / name
