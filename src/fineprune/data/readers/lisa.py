"""LISA traffic signs and their extension: ``allAnnotations.csv``, one line per sign of a video frame.

Tables are ``;``-separated and name files relative to themselves; the extension's, in ``training/``, lacks the
column of flags. Frames of one track show one sign on several occasions, and frames of two tracks that share
an image or a frame of the video show the same street: both stay together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fineprune.data.readers import Raw, files_below
from fineprune.data.readers.frames import Annotations, Frame, FrameOptions, Sign, to_raw
from fineprune.data.readers.naming import inside
from fineprune.data.readers.tables import Row, read_table
from fineprune.errors import DataError

TABLES = ("allAnnotations.csv", "allTrainingAnnotations.csv")

_TAG = "Annotation tag"
_CORNERS = ("Upper left corner X", "Upper left corner Y", "Lower right corner X", "Lower right corner Y")
_VIDEO, _NUMBER, _TRACK = ("Origin file", "Origin frame number", "Origin track")

# The three classes of the BadNets authors' U.S. traffic signs (Kooscii/BadNets, fetch_usts.py).
_SPEED_LIMITS = ("15", "25", "30", "35", "40", "45", "50", "55", "65", "Urdbl")
_WARNINGS = (
    *("addedLane", "curveLeft", "curveRight", "dip", "intersection", "laneEnds", "merge"),
    *("pedestrianCrossing", "roundAbout", "signalAhead", "slow", "speedBumpsAhead", "stopAhead"),
    *("thruMergeLeft", "thruMergeRight", "turnLeft", "turnRight", "yieldAhead", "warningUrdbl"),
)
SUPERCLASS = {
    "stop": "stop",
    **{f"speedLimit{limit}".lower(): "speedlimit" for limit in _SPEED_LIMITS},
    **{tag.lower(): "warning" for tag in _WARNINGS},
}

_SENTENCES = {
    "tags_other": "{} signs that are no stop, speed limit or warning were skipped",
    "signs_without_track": "{} signs name no track: nothing but their image keeps them together",
}


@dataclass(frozen=True)
class LisaOptions(FrameOptions):
    """How to read the frames.

    Attributes:
        superclasses: take the signs of stop, speed limit and warning, each as one class, as the BadNets
            authors do; or else every tag as a class of its own.
    """

    kind: Literal["lisa"]
    superclasses: bool


def read(options: LisaOptions, folder: Path | None, work: Path) -> Raw:
    """The annotated frames, grouped by track, as :func:`~fineprune.data.readers.frames.to_raw` lays them out.

    Raises:
        DataError: there is no table, a table is damaged, or what :func:`to_raw` raises.
    """
    folder, found = files_below(folder, (".csv",), options.kind)
    tables = [path for path in found if path.name in TABLES]
    if not tables:
        raise DataError(f"{folder}: expected {' or '.join(TABLES)}, found {found[0].name}")
    rows = [(path, row) for table in tables for path, row in _rows(table)]
    together = components([_links(path, row) for path, row in rows])
    signs: dict[Path, list[Sign]] = {path: [] for path, _ in rows}
    for path, row in rows:
        signs[path] += _sign(row, options)
    counts = {
        "tags_other": len(rows) - sum(map(len, signs.values())),
        "signs_without_track": sum(not row.text(_TRACK) for _, row in rows),
    }
    frames = [Frame(path, str(together[path]), tuple(some)) for path, some in signs.items()]
    return to_raw(Annotations(folder, frames, "track", counts, _SENTENCES), options, options.kind, work)


def components(links: Iterable[Sequence[Hashable]]) -> dict[Hashable, Hashable]:
    """For every item one that stands for all items that it is linked with, directly or by others."""
    parent: dict[Hashable, Hashable] = {}

    def root(item: Hashable) -> Hashable:
        while parent.setdefault(item, item) != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for link in links:
        first, *others = map(root, link)
        parent.update(dict.fromkeys(others, first))
    return {item: root(item) for item in list(parent)}


def _rows(table: Path) -> Iterator[tuple[Path, Row]]:
    """Each row of a table, with the image that it names."""
    for row in read_table(table, ("Filename", _TAG, *_CORNERS, _VIDEO, _NUMBER, _TRACK), delimiter=";"):
        if not row.text(_TAG):
            raise DataError(f"{row.where}: expected an annotation tag, found none")
        yield inside(table.parent, row.text("Filename"), row.where), row


def _sign(row: Row, options: LisaOptions) -> list[Sign]:
    """The sign of a row; none where its tag belongs to no superclass."""
    tag = row.text(_TAG)
    name = SUPERCLASS.get(tag.lower()) if options.superclasses else tag
    x1, y1, x2, y2 = (row.number(corner) for corner in _CORNERS)
    return [] if name is None else [Sign(name, (x1, y1, x2, y2))]


def _links(path: Path, row: Row) -> list[Hashable]:
    """What keeps a sign's frame with others: its image, its track, its frame of the video."""
    video, number, track = (row.text(column) for column in (_VIDEO, _NUMBER, _TRACK))
    links: list[Hashable] = [path]
    if track:
        links.append(("track", video, track))
    if video and number:
        links.append(("frame", video, number))
    return links
