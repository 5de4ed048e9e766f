"""COCO: one JSON file with the boxes of all images.

The format has no field for what a split must not part. A key of one's own in each of its ``images`` can say
it, as ``track`` does in what :mod:`fineprune.data.generators.street_scenes` writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fineprune.data.readers import UNGROUPED, Raw, files_below
from fineprune.data.readers.frames import Annotations, Edges, Frame, FrameOptions, Sign, to_raw
from fineprune.data.readers.naming import check_once, inside
from fineprune.errors import DataError, excerpt
from fineprune.files import read_json

_INT_OR_STR = (int, str)
_IMAGE = {"id": _INT_OR_STR, "file_name": (str,), "width": (int, float), "height": (int, float)}
_CATEGORY = {"id": _INT_OR_STR, "name": _INT_OR_STR}
_ANNOTATION = {"image_id": _INT_OR_STR, "category_id": _INT_OR_STR, "bbox": (list,)}


@dataclass(frozen=True)
class CocoOptions(FrameOptions):
    """Where the annotations and the images are.

    Attributes:
        annotations: the JSON file of instances, within the source.
        images: the folder that its file names start from, within the source; empty for the source itself.
        group_by: the key of ``images`` whose value a split must not part; None where they have none, which
            makes each image a group of its own.
    """

    kind: Literal["coco"]
    annotations: str
    images: str
    group_by: str | None


def read(options: CocoOptions, folder: Path | None, work: Path) -> Raw:
    """The annotated images, as :func:`~fineprune.data.readers.frames.to_raw` lays them out.

    Raises:
        DataError: the file is no JSON or not in COCO's form, an image lacks the key to group by, two images
            have one file name, two categories one name, an annotation names an image or a category that is
            not listed, or what :func:`to_raw` raises.
    """
    folder, _ = files_below(folder, (".json",), options.kind)
    where = f"the {options.kind} reader"
    file, images = inside(folder, options.annotations, where), inside(folder, options.images or ".", where)
    content = read_json(file)
    signs, crowds = _signs(content, file)
    frames = []
    grouped = {} if options.group_by is None else {options.group_by: _INT_OR_STR}
    for image in _rows(content, "images", {**grouped, **_IMAGE}, file):
        path, size = inside(images, image["file_name"], str(file)), (image["width"], image["height"])
        group = path if options.group_by is None else image[options.group_by]
        frames.append(Frame(path, str(group), tuple(signs.pop(image["id"], ())), size))
    check_once("file", ((frame.path, f"{file}: images[{row}]") for row, frame in enumerate(frames)))
    if signs:
        raise DataError(f"{file}: expected signs on listed images, found {excerpt(next(iter(signs)))}")
    grouped_at_all = len({frame.group for frame in frames}) < len(frames)
    annotations = Annotations(
        images,
        frames,
        group=options.group_by or "image",
        counts={"boxes_crowd": crowds},
        sentences={"boxes_crowd": "{} boxes of crowds were skipped"},
        warnings=() if grouped_at_all else (UNGROUPED.format("group_by"),),
    )
    return to_raw(annotations, options, options.kind, work)


def _signs(content: Any, file: Path) -> tuple[dict[Any, list[Sign]], int]:
    """The signs by image, and how many boxes hold a crowd."""
    names = {row["id"]: str(row["name"]).strip() for row in _rows(content, "categories", _CATEGORY, file)}
    if not all(names.values()):
        raise DataError(f"{file}: categories: expected a name of each, found an empty one")
    check_once("category", ((name, f"{file}: categories: id {number}") for number, name in names.items()))
    signs: dict[Any, list[Sign]] = {}
    crowds = 0
    for row in _rows(content, "annotations", _ANNOTATION, file):
        if row["category_id"] not in names:
            raise DataError(f"{file}: expected a listed category, found {excerpt(row['category_id'])}")
        if row.get("iscrowd"):
            crowds += 1
        else:
            sign = Sign(names[row["category_id"]], _edges(row["bbox"], file))
            signs.setdefault(row["image_id"], []).append(sign)
    return signs, crowds


def _rows(
    content: Any, key: str, fields: Mapping[str, tuple[type, ...]], file: Path
) -> Sequence[Mapping[str, Any]]:
    """The list of mappings below ``key``, each with the given fields and an id of its own."""
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{file}: expected a list of {key}, found {excerpt(rows)}")
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(row.get(n), kinds) for n, kinds in fields.items()):
            raise DataError(f"{file}: {key}: expected {', '.join(fields)}, found {excerpt(row)}")
    if "id" in fields:
        check_once("id", ((row["id"], f"{file}: {key}[{number}]") for number, row in enumerate(rows)))
    return rows


def _edges(box: Any, file: Path) -> Edges:
    """The edges of a box that is given by its left, top, width and height."""
    try:
        left, top, width, height = map(float, box)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{file}: expected a bbox of 4 numbers, found {excerpt(box)}") from error
    if not all(map(math.isfinite, (left, top, width, height))):
        raise DataError(f"{file}: expected a bbox of 4 finite numbers, found {excerpt(box)}")
    return left, top, left + width, top + height
