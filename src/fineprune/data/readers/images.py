"""ImageFolder trees: ``root/<class>/<file>``, the classes sorted by name.

Faces (LFW, YouTube Aligned Faces after export), GTSRB and most small public sets come in this form. For
faces, a table in the root may say where the eyes are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fineprune.config import Count
from fineprune.data.inputs import InputSpec
from fineprune.data.readers import Raw, allocate, files_below, numbered, warnings
from fineprune.data.readers.naming import check_once, inside
from fineprune.data.readers.pixels import SUFFIXES, Box, cropped, for_each, load
from fineprune.data.readers.tables import Row, read_table
from fineprune.errors import DataError
from fineprune.files import hidden

EYES = ("left_x", "left_y", "right_x", "right_y")
NOT_GROUPED = (
    "group_by is {}, which groups no pictures: those taken together may be in several splits, which flatters "
    "accuracy"
)


@dataclass(frozen=True)
class ImagesOptions:
    """How to read the images.

    Attributes:
        height, width: the size that every image is resized to, after the crop.
        channels: 3 for RGB, 1 for grey.
        crop: the part of each source image to keep, or None for all of it.
        min_per_class: classes with fewer images are left out.
        group_by: ``file``, or ``prefix``: what precedes the last ``_`` of the name, within its
            class (a GTSRB track: ``00012_00003.ppm``).
        landmarks: a CSV file in the root with the columns path, left_x, left_y, right_x, right_y: the eyes
            of every image, in pixels of the source image; None where they are not known.
    """

    kind: Literal["images"]
    height: Count
    width: Count
    channels: Literal[1, 3]
    crop: Box | None
    min_per_class: Count
    group_by: Literal["file", "prefix"]
    landmarks: str | None


def read(options: ImagesOptions, folder: Path | None, work: Path) -> Raw:
    """The images as uint8 (N, channels, height, width), in the order of their paths.

    Raises:
        DataError: an image is damaged or smaller than the crop, or lies in no class; a class is empty;
            an eye is not given, or given twice, or is not within the crop, or where the other one is.
        MissingExtraError: Pillow is not installed.
    """
    folder, found = files_below(folder, SUFFIXES, options.kind)
    paths = _in_classes(found, folder, options.min_per_class)
    shape = (options.channels, options.height, options.width)
    spec = InputSpec("image", shape, "uint8", low=0, high=255, sample_rate=None)
    counts = {
        "classes_left_out": len({path.parent for path in found} - {path.parent for path in paths}),
        "skipped": len(found) - len(paths),
    }
    eyes = None
    if options.landmarks is not None:
        table = inside(folder, options.landmarks, f"the {options.kind} reader")
        rows = _landmarks(table)
        eyes = _eyes(rows, [_place(path, folder) for path in paths], table)
        counts["eyes_without_image"] = len(set(rows) - {_place(path, folder) for path in found})
    inputs = allocate(work, len(paths), spec)
    crops = _fill(inputs, paths, options)
    classes, labels = numbered(path.parent.name for path in paths)
    groups = _groups(paths, options)
    return Raw(
        inputs=inputs,
        labels=labels,
        groups=groups,
        group=options.group_by,
        classes=classes,
        spec=spec,
        places=None if eyes is None else _placed(eyes, crops, paths, options),
        place_kind=None if eyes is None else "eyes",
        counts=counts,
        warnings=_warnings(counts, options, grouped=len(np.unique(groups)) < len(groups)),
    )


def _in_classes(found: Sequence[Path], folder: Path, least: int) -> list[Path]:
    """The images that lie in a class folder of at least ``least`` images."""
    for path in found:
        if path.parent.parent != folder:
            raise DataError(f"{path}: expected {folder}/<class>/<file>")
    sizes = Counter(path.parent for path in found)
    for path in folder.iterdir():
        if path.is_dir() and path not in sizes and not hidden(path.relative_to(folder)):
            raise DataError(f"{path}: expected images ({' '.join(SUFFIXES)}) of the class, found none")
    kept = [path for path in found if sizes[path.parent] >= least]
    if not kept:
        raise DataError(f"{folder}: expected classes of at least {least} images, found {max(sizes.values())}")
    return kept


def _fill(inputs: npt.NDArray[Any], paths: Sequence[Path], options: ImagesOptions) -> list[Box]:
    """Decode each image into its row; the part of each that was kept."""

    def decode(row: int) -> Box:
        image = load(paths[row], inputs.shape[1])
        box = options.crop or Box(0, 0, image.width, image.height)
        inputs[row] = cropped(image, box, options.height, options.width, paths[row])
        return box

    return for_each(decode, len(paths))


def _groups(paths: Sequence[Path], options: ImagesOptions) -> npt.NDArray[np.int64]:
    """The number of each image's group, (N,)."""
    if options.group_by == "file":
        return np.arange(len(paths), dtype=np.int64)
    return numbered(f"{path.parent.name}/{path.stem.rpartition('_')[0] or path.stem}" for path in paths)[1]


def _place(path: Path, folder: Path) -> str:
    """What the table of landmarks calls an image."""
    return path.relative_to(folder).as_posix()


def _landmarks(table: Path) -> dict[str, Row]:
    """The rows of the table, by the image that they are of."""
    rows = list(read_table(table, ("path", *EYES), delimiter=","))
    check_once("image", ((row.text("path"), row.where) for row in rows))
    return {row.text("path"): row for row in rows}


def _eyes(rows: Mapping[str, Row], images: Sequence[str], table: Path) -> npt.NDArray[np.float64]:
    """(N, 2, 2): x and y of both eyes of each image, in pixels of the source image."""
    missing = [image for image in images if image not in rows]
    if missing:
        raise DataError(
            f"{table}: expected the eyes of every image, found none of {missing[0]} "
            f"({len(missing)} such images)"
        )
    return np.array([[rows[image].number(column) for column in EYES] for image in images]).reshape(-1, 2, 2)


def _placed(
    eyes: npt.NDArray[np.float64], crops: Sequence[Box], paths: Sequence[Path], options: ImagesOptions
) -> npt.NDArray[np.float32]:
    """The eyes in pixels of the stored inputs, the one with the smaller x first."""
    corners = np.array([(box.left, box.top, box.right, box.bottom) for box in crops])[:, None]
    size = np.array([options.width, options.height])
    placed = (eyes - corners[..., :2]) * size / (corners[..., 2:] - corners[..., :2])
    faults = {
        "both eyes within the crop": ((placed < 0) | (placed > size)).any(axis=(1, 2)),
        "the eyes apart": (placed[:, 0] == placed[:, 1]).all(axis=1),
    }
    for expected, wrong in faults.items():
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{paths[row]}: expected {expected}, found {eyes[row].tolist()} of {crops[row]} "
                f"({wrong.sum()} such images)"
            )
    order = np.argsort(placed[:, :, 0], axis=1, kind="stable")
    return np.take_along_axis(placed, order[:, :, None], axis=1).astype(np.float32)


def _warnings(counts: Mapping[str, int], options: ImagesOptions, *, grouped: bool) -> tuple[str, ...]:
    told = warnings(
        counts,
        {
            "classes_left_out": f"{{}} classes of fewer than {options.min_per_class} images were left out",
            "skipped": "{} images are of classes that were left out",
            "eyes_without_image": f"{{}} rows of {options.landmarks} were skipped: no image has their path",
        },
    )
    return told if grouped else (*told, NOT_GROUPED.format(options.group_by))
