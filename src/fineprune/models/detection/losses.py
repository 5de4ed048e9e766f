"""The two losses that both stages of the detector are trained with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fineprune.models.detection.targets import Targets


def class_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Mean cross-entropy over the chosen boxes, of logits (B, N, classes)."""
    losses = F.cross_entropy(logits.transpose(1, 2), targets.classes, reduction="none")
    return losses.where(targets.chosen, 0).sum() / _count(targets)


def box_loss(offsets: Tensor, targets: Targets, *, quadratic: float) -> Tensor:
    """Smooth L1 of offsets (B, N, 4), summed over chosen signs and divided by all chosen boxes.

    Args:
        offsets: as predicted.
        targets: what they should be.
        quadratic: the error up to which the loss is a parabola.
    """
    losses = F.smooth_l1_loss(offsets, targets.offsets, reduction="none", beta=quadratic).sum(2)
    return losses.where(targets.foreground, 0).sum() / _count(targets)


def _count(targets: Targets) -> Tensor:
    return targets.chosen.sum().clamp(min=1)
