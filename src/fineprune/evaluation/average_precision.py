"""Average precision of a detector, as Pascal VOC defines it: at IoU 0.5, over all points of the curve.

Each detection claims the box of its class that it overlaps most. The claim holds where the IoU is at
least one half and no detection with a higher score claims the same box; all other detections are wrong.
Boxes that Pascal VOC calls difficult count like any other, and what ingest leaves out (crowds, boxes below
``min_size``) is not there to be found; the benchmarks count a detection of either as neither right nor wrong.

Source:
    Everingham et al. (2010), Int. J. Comput. Vis. 88:303, with the area under all points (since 2010)
    in place of eleven. Box edges are exclusive, so no pixel is added to widths and heights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fineprune.errors import DataError
from fineprune.evaluation.intervals import CONFIDENCE, Estimate, wilson
from fineprune.evaluation.outcomes import Classes
from fineprune.models.detection.boxes import iou
from fineprune.models.detection.detections import FOUND

RESAMPLES = 1000
BLOCK = 1 << 24  # floats per block of resamples: 128 MiB

Numbers = npt.NDArray[np.floating[Any]]
Weights = npt.NDArray[np.float64]


class Detected(NamedTuple):
    """What a detector found in N images, in D slots each.

    Attributes:
        boxes: (N, D, 4) x1, y1, x2, y2.
        scores: (N, D) in 0…1; a slot that is empty has 0.
        classes: (N, D) int.
    """

    boxes: Numbers
    scores: Numbers
    classes: Classes


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of each class, and its mean over those that occur.

    Attributes:
        mean: None where no image has a box.
        by_class: one entry per class; None for a class without a box.
    """

    mean: Estimate | None
    by_class: tuple[Estimate | None, ...]


def average_precision(
    found: Detected,
    boxes: Numbers,
    labels: Classes,
    *,
    classes: int,
    groups: npt.NDArray[Any] | None = None,
    seed: int = 0,
) -> AveragePrecision:
    """VOC average precision at IoU 0.5, by class and in the mean, with bootstrap intervals.

    Average precision is the area under a curve that is made of all images' detections in one ranking. It
    is no share of independent outcomes, so that no closed form fits; the images are drawn anew, with
    replacement, and all boxes of an image stay together, as do all images of a group. Where every draw
    gives the same, as with a detector that is always right, Wilson's limits for that many images (groups) are
    used instead: a few images must not look like certainty.

    On few images the area is .01 to .03 too high, as a maximum over a noisy curve is, and so are its 95 %
    intervals: they cover the true value 83 to 91 % of the time (simulated with 50 to 200 images).

    Args:
        found: what the detector says; its scores are compared between images.
        boxes: (N, K, 4) what there is.
        labels: (N, K) int, the classes of the boxes in 0…classes-1; -1 where the slot is empty.
        classes: how many there are.
        groups: (N,) video, track or scene of each image; None takes the images as independent.
        seed: of the draws.

    Returns:
        Estimates whose ``n`` is the number of boxes.

    Raises:
        DataError: the arrays do not belong together.
    """
    _check(found, boxes, labels, classes)
    _, units = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    there = np.where(labels >= 0, units[:, None], -1)
    if (there < 0).all():
        return AveragePrecision(None, (None,) * classes)
    count = int(units.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    weights = np.concatenate([np.ones((1, count)), draws])  # as measured, then the draws
    areas = {
        one: _ranking(found, boxes, labels, units, one).area(weights)
        for one in np.unique(labels[labels >= 0]).tolist()
    }
    by_class = {one: _estimate(area, there[labels == one]) for one, area in areas.items()}
    mean = _estimate(_mean(np.stack(list(areas.values()))), there[labels >= 0])
    return AveragePrecision(mean, tuple(by_class.get(one) for one in range(classes)))


@dataclass(frozen=True)
class _Ranking:
    """The detections of one class by descending score, and the boxes there are.

    Attributes:
        right: (M,) bool.
        units: (M,) int, the image or group of each detection.
        boxes: (G,) int, that of each box of the class.
    """

    right: npt.NDArray[np.bool_]
    units: Classes
    boxes: Classes

    def area(self, weights: Weights) -> Weights:
        """(B,) areas where each unit counts as often as a row of ``weights`` (B, units) says.

        NaN where a row leaves no box of the class.
        """
        rows = max(1, BLOCK // max(1, len(self.right)))
        blocks = [self._area(weights[first : first + rows]) for first in range(0, len(weights), rows)]
        return np.concatenate(blocks)

    def _area(self, weights: Weights) -> Weights:
        counts = weights[:, self.units]
        seen = counts.cumsum(1)[:, self.right]
        gained = counts[:, self.right]
        hits = gained.cumsum(1)
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        # Precision rises only where a detection is right, so its largest value further down is at one.
        envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        there = weights[:, self.boxes].sum(1)
        area: Weights = np.full(len(weights), np.nan)
        np.divide((envelope * gained).sum(1), there, out=area, where=there > 0)
        return area


def _ranking(found: Detected, boxes: Numbers, labels: Classes, units: Classes, one: int) -> _Ranking:
    """The detections of class ``one`` in their order; ties stay in the order of the images."""
    images, slots = np.nonzero((found.classes == one) & (found.scores > 0))
    order = np.argsort(-found.scores[images, slots], kind="stable")
    images, slots = images[order], slots[order]
    detected, there = (
        torch.from_numpy(edges.astype(np.float64))
        for edges in (found.boxes[images, slots, None], boxes[images])
    )
    shared = np.where(labels[images] == one, iou(detected, there)[:, 0].numpy(), 0.0)
    nearest = shared.argmax(1)
    near = np.take_along_axis(shared, nearest[:, None], 1)[:, 0] >= FOUND
    first = np.zeros(len(images), dtype=bool)
    claims = images * labels.shape[1] + nearest
    candidates = np.flatnonzero(near)
    first[candidates[np.unique(claims[candidates], return_index=True)[1]]] = True
    return _Ranking(first, units[images], units[np.nonzero(labels == one)[0]])


def _mean(areas: Weights) -> Weights:
    """(B,) means over K classes (K, B); a draw without a box of a class leaves it out."""
    known = np.count_nonzero(~np.isnan(areas), axis=0)
    mean: Weights = np.full(areas.shape[1], np.nan)
    np.divide(np.nansum(areas, 0), known, out=mean, where=known > 0)
    return mean


def _estimate(areas: Weights, units: Classes) -> Estimate:
    """The first of ``areas`` with the percentiles of the others; ``units`` (G,) are those of the boxes."""
    value = float(areas[0])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(areas[1:], [tail, 1 - tail]).tolist()
    if high - low < 1e-9:  # the same in every draw, but for rounding
        count = len(np.unique(units))
        limits = wilson(round(value * count), count)
        low, high = limits.low, limits.high
    return Estimate(value, min(value, low), max(value, high), len(units))


def _check(found: Detected, boxes: Numbers, labels: Classes, classes: int) -> None:
    images, slots = found.scores.shape
    expected = {
        "detections": (found.boxes.shape, (images, slots, 4)),
        "classes of detections": (found.classes.shape, (images, slots)),
        "boxes": (boxes.shape, (images, labels.shape[-1], 4)),
        "labels": (labels.shape, (images, labels.shape[-1])),
    }
    for name, (shape, wanted) in expected.items():
        if shape != wanted:
            raise DataError(f"average precision: {name}: expected {wanted}, found {shape}")
    if labels.size and labels.max() >= classes:
        raise DataError(f"average precision: labels: expected classes below {classes}, found {labels.max()}")
