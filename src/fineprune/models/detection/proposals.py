"""Region proposals: the boxes in which the network looks for signs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fineprune.config import Count, Fraction
from fineprune.models.detection.boxes import clip, decode, pick
from fineprune.models.detection.nms import nms


@dataclass(frozen=True)
class ProposalSpec:
    """How many regions are proposed.

    Attributes:
        candidates: the best anchors of an image, before suppression (pre-NMS top n).
        train, test: the best proposals of an image after it (post-NMS top n).
        overlap: the IoU up to which two proposals may both stay (NMS threshold; paper: 0.7).
    """

    candidates: Count
    train: Count
    test: Count
    overlap: Fraction


def propose(
    scores: Tensor, offsets: Tensor, anchors: Tensor, spec: ProposalSpec, *, count: int, size: tuple[int, int]
) -> Tensor:
    """The best boxes (B, min(count, candidates, N), 4) of each image; where fewer stay, suppressed ones too.

    Args:
        scores: (B, N) of the anchors, larger is better.
        offsets: (B, N, 4).
        anchors: (N, 4).
        spec: how many, and how far apart.
        count: ``spec.train`` or ``spec.test``.
        size: height and width of the image.
    """
    best = scores.topk(min(spec.candidates, scores.shape[1]), dim=1).indices
    boxes = clip(decode(pick(offsets, best), anchors[best]), *size)
    stays = nms(boxes, spec.overlap)
    # Candidates are in order: those that stay come first, by a key that is stable by construction.
    key = torch.arange(best.shape[1], device=best.device) + best.shape[1] * (~stays).long()
    first = key.topk(min(count, best.shape[1]), dim=1, largest=False).indices
    return pick(boxes, first)
