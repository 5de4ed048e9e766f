"""Frames with annotated signs become inputs of one size, each with the same number of slots for signs.

What the detection formats share once their annotations are parsed: a frame is scaled to fit, its aspect kept,
and padded with mid-grey to the right and below; its boxes follow. Frames are taken as they are stored: some
annotating tools turn them as EXIF says, some do not. What cannot be used is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fineprune.config import Count, Fraction, NonNegative
from fineprune.data.format import EMPTY
from fineprune.data.readers import Raw, allocate, files_below, numbered, warnings
from fineprune.data.readers.pixels import SUFFIXES, fitted, for_each, has_exif_orientation, load, rgb
from fineprune.errors import DataError

# How far a box may reach out of its image: rounding, and counting pixels from 1, move an edge by no more.
_ROUNDING = 1.0
# Every image has as many slots as the fullest one needs: a thousand take 24 kB, as 64 × 128 pixels do.
_MOST_SIGNS = 1000

Edges = tuple[float, float, float, float]

_SENTENCES = {
    "images_without_signs": "{} images without usable signs were skipped",
    "images_unreadable": "{} images are missing or cannot be read and were skipped",
    "images_of_another_size": "{} images have another size than their annotation says and were skipped",
    "images_not_turned": "{} images have an EXIF orientation, which was not applied: check that boxes fit",
    "signs_repeated": "{} signs repeat another one, in class and box, and were skipped",
    "boxes_empty": "{} boxes of zero size were skipped",
    "boxes_outside": "{} boxes reach out of their image and were skipped",
    "boxes_small": "{} boxes are smaller than min_size after scaling and were skipped",
}


@dataclass(frozen=True)
class FrameOptions:
    """What every detection reader can be told.

    Attributes:
        height, width: the size that every frame is fitted into.
        min_size: signs of which a side is shorter than so many pixels of the input are left out.
        max_unreadable: the share of frames that may be missing or damaged; they are skipped.
    """

    height: Count
    width: Count
    min_size: NonNegative
    max_unreadable: Fraction


@dataclass(frozen=True)
class Sign:
    """The edges x1, y1, x2, y2 of a sign in pixels of its frame, and its class."""

    name: str
    edges: Edges


@dataclass(frozen=True)
class Frame:
    """An image, what a split must not part it from, its signs, and its (width, height) where annotated."""

    path: Path
    group: str
    signs: tuple[Sign, ...]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Annotations:
    """What a detection format says of its images.

    Attributes:
        images: the folder of all images, annotated or not.
        frames: the annotated ones.
        group: what a group is.
        counts: what the format's parser left out or came across.
        sentences: the same in words, with ``{}`` for the count.
        warnings: what else the user should know.
    """

    images: Path
    frames: Sequence[Frame]
    group: str
    counts: Mapping[str, int] = field(default_factory=dict)
    sentences: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fitted:
    """What became of a frame: its signs in pixels of the input, and why others are not among them.

    ``not_turned`` if it has an EXIF orientation, which was not applied.
    """

    signs: tuple[Sign, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    unreadable: str | None = None
    not_turned: bool = False


def to_raw(annotations: Annotations, options: FrameOptions, kind: str, work: Path) -> Raw:
    """The frames with signs as uint8 (N, 3, height, width), in the order of their paths.

    Labels are (N, K) and places (N, K, 4), K the most signs of any frame; empty slots, at the end of a row,
    hold -1 and zeros.

    Raises:
        DataError: no frame has a usable sign, or one has more than 1,000; boxes are not in pixels; more
            frames than ``max_unreadable`` cannot be read.
        MissingExtraError: Pillow is not installed.
    """
    _, found = files_below(annotations.images, SUFFIXES, kind)
    frames = sorted((frame for frame in annotations.frames if frame.signs), key=lambda frame: frame.path)
    fullest = max(frames, key=lambda frame: len(frame.signs), default=None)
    if fullest and len(fullest.signs) > _MOST_SIGNS:
        expected = f"expected at most {_MOST_SIGNS:,} signs in an image"
        raise DataError(f"{fullest.path}: {expected}, found {len(fullest.signs):,}")
    _check_in_pixels(frames)
    spec = rgb(options.height, options.width)
    inputs = allocate(work, len(frames), spec)
    results = _fill(inputs, frames, options)
    _check_readable(results, annotations.images, options.max_unreadable)
    kept = [row for row, result in enumerate(results) if result.signs]
    counts = Counter(annotations.counts)
    for result in results:
        counts.update(result.skipped)
    counts["images_not_turned"] = sum(result.not_turned for result in results)
    counts["images_without_signs"] += len(set(found) - {frame.path for frame in frames})
    told = warnings(counts, {**_SENTENCES, **annotations.sentences})
    if not kept:
        raise DataError(
            f"{annotations.images}: expected images with signs, found none among {len(found)}: "
            f"{'; '.join(told)}"
        )
    classes, labels, places = _slots([results[row].signs for row in kept])
    return Raw(
        inputs=_compacted(inputs, kept),
        labels=labels,
        groups=numbered(frames[row].group for row in kept)[1],
        group=annotations.group,
        classes=classes,
        spec=spec,
        places=places,
        place_kind="boxes",
        counts={name: counts[name] for name in (*_SENTENCES, *annotations.counts)},
        warnings=(*annotations.warnings, *told),
    )


def _check_in_pixels(frames: Sequence[Frame]) -> None:
    """Refuse boxes that are shares of their image's sides, as other formats have them."""
    edges = [float(edge) for frame in frames for sign in frame.signs for edge in sign.edges]
    if all(0 <= edge <= 1 for edge in edges) and not all(edge.is_integer() for edge in edges):
        raise DataError(
            f"{frames[0].path}: expected boxes in pixels, found none of any image that reaches beyond 1: "
            "are they shares of its sides?"
        )


def _fill(inputs: npt.NDArray[Any], frames: Sequence[Frame], options: FrameOptions) -> list[_Fitted]:
    """Decode each frame into its row."""

    def decode(row: int) -> _Fitted:
        frame = frames[row]
        try:
            image = load(frame.path, channels=3, turn=False)
        except DataError as error:
            return _Fitted(unreadable=str(error), skipped={"images_unreadable": 1})
        not_turned = has_exif_orientation(image)
        if frame.size not in (None, image.size):
            return _Fitted(skipped={"images_of_another_size": 1}, not_turned=not_turned)
        inputs[row], scale = fitted(image, options.height, options.width)
        return replace(_scaled(frame.signs, image.size, scale, options.min_size), not_turned=not_turned)

    return for_each(decode, len(frames))


def _scaled(
    signs: Sequence[Sign], size: tuple[int, int], scale: tuple[float, float], min_size: float
) -> _Fitted:
    """The signs in pixels of the input, clipped to what the frame covers of it."""
    distinct = dict.fromkeys(signs)
    kept, skipped = [], Counter(signs_repeated=len(signs) - len(distinct))
    for sign in distinct:
        clipped = np.clip(sign.edges, 0, np.tile(size, 2))
        x1, y1, x2, y2 = (clipped * np.tile(scale, 2)).astype(np.float32).tolist()  # as the dataset has them
        if np.abs(clipped - sign.edges).max() > _ROUNDING:
            skipped["boxes_outside"] += 1
        elif not (x1 < x2 and y1 < y2):
            skipped["boxes_empty"] += 1
        elif min(x2 - x1, y2 - y1) < min_size:
            skipped["boxes_small"] += 1
        else:
            kept.append(Sign(sign.name, (x1, y1, x2, y2)))
    if not kept:
        skipped["images_without_signs"] = 1
    return _Fitted(tuple(kept), skipped)


def _check_readable(results: Sequence[_Fitted], folder: Path, limit: float) -> None:
    faults = [result.unreadable for result in results if result.unreadable is not None]
    if len(faults) > limit * len(results):
        raise DataError(
            f"{folder}: expected at most {limit:.1%} of {len(results)} images unreadable, "
            f"found {len(faults)}, first {faults[0]}"
        )


def _compacted(inputs: npt.NDArray[Any], kept: Sequence[int]) -> npt.NDArray[Any]:
    """The kept rows, moved to the front of the map."""
    for target, row in enumerate(kept):
        if target != row:
            inputs[target] = inputs[row]
    return inputs[: len(kept)]


def _slots(
    signs: Sequence[tuple[Sign, ...]],
) -> tuple[tuple[str, ...], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The class names, labels (N, K) and places (N, K, 4)."""
    classes, numbers = numbered(sign.name for row in signs for sign in row)
    counts = np.array([len(row) for row in signs])
    filled = np.arange(counts.max()) < counts[:, None]
    labels = np.full(filled.shape, EMPTY, np.int64)
    places = np.zeros((*filled.shape, 4), np.float32)
    labels[filled] = numbers
    places[filled] = [sign.edges for row in signs for sign in row]
    return classes, labels, places
