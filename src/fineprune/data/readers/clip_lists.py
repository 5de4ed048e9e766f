"""Pannous' lists of clips: one ``path<space or tab>label`` a line.

They name spectrograms (``7_Agnes_100.wav.png``) in folders of their authors' machine: the clip is the WAV
file of that name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from fineprune.errors import DataError, excerpt


@dataclass(frozen=True)
class Entry:
    """One line of a list.

    Attributes:
        where: its file and line.
        name: of the WAV file, without folders.
        digit: its label.
        test: the list is that of the authors' test set.
    """

    where: str
    name: str
    digit: str
    test: bool


def read_list(path: Path, *, test: bool) -> list[Entry]:
    """The lines of a list that are not blank.

    Raises:
        DataError: the file cannot be read, or a line is not a path and a digit.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a list of clips, found {error}") from error
    return [_entry(line, f"{path}:{number}", test) for number, line in enumerate(lines, 1) if line.strip()]


def _entry(line: str, where: str, test: bool) -> Entry:
    place, _, label = line.replace("\t", " ").strip().rpartition(" ")
    if not place or len(label) != 1 or label not in "0123456789":
        raise DataError(f"{where}: expected a path and a digit, found {excerpt(line)}")
    name = PureWindowsPath(place.strip()).name  # / parts its folders, and \ too
    return Entry(where, name.removesuffix(".png"), label, test)


def find(entries: Iterable[Entry], paths: Iterable[Path]) -> tuple[dict[Path, Entry], int]:
    """The entry of each listed file among ``paths``, and how many entries have no file there.

    Raises:
        DataError: two files have the name of an entry, or two entries are of one file.
    """
    by_name: dict[str, list[Path]] = {}
    for path in paths:
        by_name.setdefault(path.name, []).append(path)
    listed: dict[Path, Entry] = {}
    missing = 0
    for entry in entries:
        candidates = by_name.get(entry.name, [])
        if len(candidates) > 1:
            raise DataError(f"{entry.where}: expected one file {entry.name}, found {len(candidates)}")
        if not candidates:
            missing += 1
        elif (first := listed.setdefault(candidates[0], entry)) is not entry:
            raise DataError(f"{entry.where}: expected each clip once, {entry.name} is at {first.where} too")
    return listed, missing
