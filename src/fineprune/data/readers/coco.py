"""COCO: one JSON file with the boxes of all images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fineprune.data.readers import Raw, files_below
from fineprune.data.readers.frames import Annotations, Edges, Frame, FrameOptions, Sign, to_raw
from fineprune.data.readers.tables import inside
from fineprune.errors import DataError, excerpt
from fineprune.files import read_json

_NAME = (int, str)
_IMAGE = {"id": _NAME, "file_name": (str,), "width": (int, float), "height": (int, float)}
_CATEGORY = {"id": _NAME, "name": _NAME}
_ANNOTATION = {"image_id": _NAME, "category_id": _NAME, "bbox": (list,)}


@dataclass(frozen=True)
class CocoOptions(FrameOptions):
    """Where the annotations and the images are.

    Attributes:
        annotations: the JSON file of instances, within the source.
        images: the folder that its file names start from, within the source.
    """

    kind: Literal["coco"]
    annotations: str
    images: str


def read(options: CocoOptions, folder: Path | None, work: Path) -> Raw:
    """The annotated images, each a group of its own.

    They are laid out by :func:`~fineprune.data.readers.frames.to_raw`.

    Raises:
        DataError: the file is no JSON or not in COCO's form, an annotation names an image or a category that
            is not listed, or what :func:`to_raw` raises.
    """
    folder, _ = files_below(folder, (".json",), options.kind)
    file, images = folder / options.annotations, folder / options.images
    content = read_json(file)
    signs, crowds = _signs(content, file)
    frames = []
    for image in _rows(content, "images", _IMAGE, file):
        path, size = inside(images, image["file_name"], str(file)), (image["width"], image["height"])
        frames.append(Frame(path, str(path), tuple(signs.pop(image["id"], ())), size))
    if signs:
        raise DataError(f"{file}: expected signs on listed images, found {next(iter(signs))!r:.60}")
    sentences = {"boxes_crowd": "{} boxes of crowds were skipped"}
    return to_raw(
        Annotations(images, frames, "image", {"boxes_crowd": crowds}, sentences), options, options.kind, work
    )


def _signs(content: Any, file: Path) -> tuple[dict[Any, list[Sign]], int]:
    """The signs by image, and how many boxes hold a crowd."""
    names = {row["id"]: str(row["name"]) for row in _rows(content, "categories", _CATEGORY, file)}
    signs: dict[Any, list[Sign]] = {}
    crowds = 0
    for row in _rows(content, "annotations", _ANNOTATION, file):
        if row["category_id"] not in names:
            raise DataError(f"{file}: expected a listed category, found {row['category_id']!r:.60}")
        if row.get("iscrowd"):
            crowds += 1
        else:
            sign = Sign(names[row["category_id"]], _edges(row["bbox"], file))
            signs.setdefault(row["image_id"], []).append(sign)
    return signs, crowds


def _rows(
    content: Any, key: str, fields: Mapping[str, tuple[type, ...]], file: Path
) -> Sequence[Mapping[str, Any]]:
    """The list of mappings below ``key``, each with the given fields."""
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{file}: expected a list of {key}, found {excerpt(rows)}")
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(row.get(n), kinds) for n, kinds in fields.items()):
            raise DataError(f"{file}: {key}: expected {', '.join(fields)}, found {excerpt(row)}")
    return rows


def _edges(box: Any, file: Path) -> Edges:
    """The edges of a box that is given by its left, top, width and height."""
    try:
        left, top, width, height = map(float, box)
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}: expected a bbox of 4 numbers, found {excerpt(box)}") from error
    return left, top, left + width, top + height
