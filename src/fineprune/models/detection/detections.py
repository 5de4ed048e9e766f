"""Detections: what is reported of the regions, and which sign each report is about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fineprune.config import Count, Fraction
from fineprune.models.base import NOT_FINITE, NOTHING, Detections
from fineprune.models.detection.boxes import area, clip, decode, iou, pick
from fineprune.models.detection.nms import nms
from fineprune.models.detection.targets import from_units

FOUND = 0.5  # overlap (IoU) from which on a detection is about a sign


@dataclass(frozen=True)
class DetectionSpec:
    """What is reported.

    Attributes:
        min_score: class probability from which on a region is reported (score threshold).
        overlap: the IoU up to which two detections of a class may both stay (NMS threshold; paper: 0.3).
        most: how many detections an image gets; fewer where regions times classes are fewer.
    """

    min_score: Fraction
    overlap: Fraction
    most: Count


def detect(
    logits: Tensor, offsets: Tensor, regions: Tensor, spec: DetectionSpec, *, size: tuple[int, int]
) -> Detections:
    """The best detections of each image, best first, without boxes that have no area in it.

    Args:
        logits: (B, R, 1 + classes), background first.
        offsets: (B, R, 1 + classes, 4).
        regions: (B, R, 4).
        spec: how many, how likely, and how far apart.
        size: height and width of the image.
    """
    scores = logits.softmax(-1)[..., 1:].transpose(1, 2)  # (B, classes, R)
    scores, order = torch.where(scores >= spec.min_score, scores, 0).sort(-1, descending=True)
    boxes = decode(from_units(offsets[:, :, 1:]), regions.unsqueeze(2)).transpose(1, 2)
    boxes = clip(boxes.gather(2, order.unsqueeze(-1).expand_as(boxes)), *size)
    each = boxes.flatten(0, 1)
    stays = nms(each, spec.overlap) & (area(each) > 0)  # a box outside of the image is clipped to nothing
    scores = torch.where(stays.view_as(scores), scores, 0).flatten(1)
    scores, best = scores.topk(min(spec.most, scores.shape[1]), dim=1)
    return Detections(pick(boxes.flatten(1, 2), best), scores, best // regions.shape[1])


def match_detections(detections: Detections, places: Tensor) -> Tensor:
    """For each box (B, K, 4) the class of the best-scoring detection on it, int64 (B, K).

    :data:`NOTHING` where no detection overlaps with it by one half, :data:`NOT_FINITE` where a score of
    the image is not finite.
    """
    near = (iou(places, detections.boxes) >= FOUND) & (detections.scores > 0).unsqueeze(1)
    score, best = torch.where(near, detections.scores.unsqueeze(1), 0).max(2)
    classes = torch.where(score > 0, detections.classes.gather(1, best), NOTHING)
    return torch.where(detections.scores.isfinite().all(1, keepdim=True), classes, NOT_FINITE)
