"""Pascal VOC: one XML file of boxes per image.

Corners are taken for edges. VOC's own count pixels from 1, which moves an edge by at most one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from fineprune.data.readers import UNGROUPED, Raw, files_below
from fineprune.data.readers.frames import Annotations, Frame, FrameOptions, Sign, to_raw
from fineprune.data.readers.naming import check_once, inside
from fineprune.data.readers.pixels import SUFFIXES
from fineprune.errors import DataError, excerpt

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SENTENCES = {
    "images_found_by_stem": "{} images have another suffix than their annotation says: found by their stem",
    "images_named_otherwise": "{} annotations name another image than the one with their own name",
    "boxes_difficult": "{} signs are flagged difficult; they are used like the others",
}


@dataclass(frozen=True)
class PascalVocOptions(FrameOptions):
    """Where the annotations and the images are.

    Attributes:
        annotations: the folder of the XML files, within the source; empty for the source itself.
        images: the folder of the images, within the source; likewise.
    """

    kind: Literal["pascal_voc"]
    annotations: str
    images: str


def read(options: PascalVocOptions, folder: Path | None, work: Path) -> Raw:
    """The annotated images, each a group of its own.

    They are laid out by :func:`~fineprune.data.readers.frames.to_raw`.

    Raises:
        DataError: an annotation is no XML, declares a document type, or lacks a name or a corner; two images
            have the name that an annotation gives, or two annotations name one image; or what
            :func:`to_raw` raises.
    """
    folder, _ = files_below(folder, (".xml",), options.kind)
    where = f"the {options.kind} reader"
    _, files = files_below(inside(folder, options.annotations or ".", where), (".xml",), options.kind)
    images, found = files_below(inside(folder, options.images or ".", where), SUFFIXES, options.kind)
    named = _index((path.name, path) for path in found)
    stems = _index((path.stem, path) for path in found)
    counts = dict.fromkeys(_SENTENCES, 0)
    frames = []
    for file in files:
        document = _document(file)
        name = Path(document.findtext("filename", "").strip() or file.stem).name
        # A name without a suffix may have a dot.
        found_by = named.get(name) or stems.get(name) or stems.get(Path(name).stem) or [images / name]
        path = _only(found_by, file)
        counts["images_found_by_stem"] += path.name != name and Path(name).suffix.lower() in SUFFIXES
        counts["images_named_otherwise"] += path.stem != file.stem and file.stem in stems
        difficult = (flag.text or "" for flag in document.iterfind("object/difficult"))
        counts["boxes_difficult"] += sum(text.strip() == "1" for text in difficult)
        signs = tuple(_sign(entry, file) for entry in document.iterfind("object"))
        frames.append(Frame(path, str(path), signs, _size(document, file)))
    check_once("image", zip((frame.path for frame in frames), files, strict=True))
    annotations = Annotations(
        images, frames, "image", counts, _SENTENCES, warnings=(UNGROUPED.format("the format"),)
    )
    return to_raw(annotations, options, options.kind, work)


def _index(found: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    index: dict[str, list[Path]] = {}
    for name, path in found:
        index.setdefault(name, []).append(path)
    return index


def _only(paths: Sequence[Path], file: Path) -> Path:
    if len(paths) > 1:
        raise DataError(f"{file}: expected one image of its name, found {paths[0]} and {paths[1]}")
    return paths[0]


def _document(path: Path) -> Element:
    """The root of an XML file. A document type is refused: its entities could expand without bound."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*declared: Any) -> None:
        raise DataError(f"{path}: expected no document type, found <!DOCTYPE {declared[0]}>")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, OSError, ValueError, LookupError) as error:  # the last of unknown encodings
        raise DataError(f"{path}: expected XML, found {error}") from error
    return builder.close()


def _sign(entry: Element, file: Path) -> Sign:
    name = entry.findtext("name", "").strip()
    if not name:
        raise DataError(f"{file}: expected the name of every object, found none")
    x1, y1, x2, y2 = (_number(entry, f"bndbox/{corner}", file) for corner in _CORNERS)
    return Sign(name, (x1, y1, x2, y2))


def _size(document: Element, file: Path) -> tuple[int, int] | None:
    """The (width, height) that the annotation was made for; None where it says none, or zeros."""
    if document.find("size") is None:
        return None
    width, height = (int(_number(document, f"size/{side}", file)) for side in ("width", "height"))
    return (width, height) if width and height else None


def _number(element: Element, place: str, file: Path) -> float:
    text = element.findtext(place, "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{file}: expected a number in <{place}>, found {excerpt(text)}")
    return value
