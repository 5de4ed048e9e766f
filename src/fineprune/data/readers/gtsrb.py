"""GTSRB: German traffic signs, one ``;``-separated table per class and one for the authors' test set.

``GT-000cc.csv`` lies beside its images ``TTTTT_FFFFF.ppm``, of which ``TTTTT`` is the track;
``GT-final_test.csv`` comes apart from the test images, which are single.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fineprune.config import Count
from fineprune.data.readers import Raw, allocate, files_below, numbered, warnings
from fineprune.data.readers.naming import check_once, inside
from fineprune.data.readers.pixels import SUFFIXES, Box, cropped, for_each, load, rgb
from fineprune.data.readers.tables import Row, read_table
from fineprune.errors import DataError

_TRAIN = re.compile(r"GT-\d{5}\.csv")
_TEST = "GT-final_test.csv"
_ROI = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")


@dataclass(frozen=True)
class GtsrbOptions:
    """How to read the images.

    Attributes:
        height, width: the size that every image is resized to.
        crop_to_sign: keep the region of interest only, without the margin around the sign.
    """

    kind: Literal["gtsrb"]
    height: Count
    width: Count
    crop_to_sign: bool


@dataclass(frozen=True)
class _Image:
    where: str
    path: Path
    size: tuple[int, int] | None  # as the table has it
    sign: Box
    name: str
    group: str
    test: bool


def read(options: GtsrbOptions, folder: Path | None, work: Path) -> Raw:
    """The images as uint8 (N, 3, height, width), grouped by track; classes are named by their five digits.

    Raises:
        DataError: there is no table, a table or an image is damaged, an image is listed twice, a region of
            interest is not within its image or of an image of another size, or the test images may be in
            several folders.
        MissingExtraError: Pillow is not installed.
    """
    folder, tables = files_below(folder, (".csv",), options.kind)
    _, found = files_below(folder, SUFFIXES, options.kind)
    images = [image for table in tables for image in _images(table, found)]
    if not images:
        raise DataError(f"{folder}: expected GT-00000.csv … or {_TEST} with images, found {tables[0].name}")
    check_once("image", ((image.path, image.where) for image in images))
    spec = rgb(options.height, options.width)
    inputs = allocate(work, len(images), spec)

    def decode(row: int) -> None:
        path = images[row].path
        image = load(path, channels=3)
        box = Box(0, 0, image.width, image.height)
        if options.crop_to_sign:
            box = images[row].sign
            if images[row].size not in (None, image.size):
                expected = "expected {}×{} pixels as in the table".format(*images[row].size or ())
                raise DataError(f"{path}: {expected}, found {image.width}×{image.height}")
        inputs[row] = cropped(image, box, options.height, options.width, path)

    for_each(decode, len(images))
    classes, labels = numbered(image.name for image in images)
    test = np.array([image.test for image in images])
    counts = {"images_unlisted": len(set(found) - {image.path for image in images})}
    return Raw(
        inputs=inputs,
        labels=labels,
        groups=numbered(image.group for image in images)[1],
        group="track",
        classes=classes,
        spec=spec,
        authors_test=test if test.any() else None,
        counts=counts,
        warnings=warnings(counts, {"images_unlisted": "{} images are in no table with classes: skipped"}),
    )


def _images(table: Path, found: Sequence[Path]) -> Iterator[_Image]:
    """The images of a table; none where it is not one with classes."""
    test = table.name == _TEST
    if not test and not _TRAIN.fullmatch(table.name):
        return
    rows = list(read_table(table, ("Filename", *_ROI, "ClassId"), delimiter=";"))
    folder = _test_folder(table, rows, found) if test else table.parent
    for row in rows:
        path = inside(folder, row.text("Filename"), row.where)
        left, top, right, bottom = (row.whole(side) for side in _ROI)
        group = str(path) if test else f"{table.parent.name}/{path.stem.rpartition('_')[0]}"
        name, sign = f"{row.whole('ClassId'):05d}", Box(left, top, right, bottom)
        size = (row.whole("Width"), row.whole("Height")) if row.text("Width") and row.text("Height") else None
        yield _Image(row.where, path, size, sign, name, group, test)


def _test_folder(table: Path, rows: Sequence[Row], found: Sequence[Path]) -> Path:
    """Where the first image of the authors' test set lies: its table comes in an archive of its own.

    Raises:
        DataError: it does not lie beside the table, but in several other folders.
    """
    name = rows[0].text("Filename") if rows else None
    folders = [path.parent for path in found if path.name == name]
    if table.parent in folders or not folders:
        return table.parent
    if len(folders) > 1:
        raise DataError(
            f"{table}: expected {name} beside it or in one other folder, "
            f"found it in {folders[0]} and {folders[1]}"
        )
    return folders[0]
