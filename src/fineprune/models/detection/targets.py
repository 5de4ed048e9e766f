"""What the losses ask of anchors and regions: which sign each belongs to, and which are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fineprune.config import Count, Fraction
from fineprune.models.detection.boxes import encode, iou, pick

# Overlap (IoU) with a sign from which on an anchor shows it, and below which it shows none
# (method: Ren et al., Faster R-CNN, 2015, §3.1.2); a region shows the sign from one half on.
ANCHOR_SIGN, ANCHOR_NONE, REGION_SIGN = 0.7, 0.3, 0.5
BACKGROUND = 0
# Offsets of regions are small: they are learned in units of their usual spread (Fast R-CNN's code).
CENTRE_UNIT, SIDE_UNIT = 0.1, 0.2


@dataclass(frozen=True)
class SamplingSpec:
    """What the losses are taken over.

    Attributes:
        anchors: of each image, at most half of them on signs (RPN batch size; paper: 256).
        regions: of each image (RoI batch size; paper: 128).
        signs: the share of regions that may show a sign (foreground fraction; paper: 0.25).
    """

    anchors: Count
    regions: Count
    signs: Fraction


class Targets(NamedTuple):
    """What a set of boxes (B, N, 4) should be answered with.

    Attributes:
        classes: int64 (B, N), :data:`BACKGROUND` or more.
        offsets: (B, N, 4) to the sign; without meaning for background.
        chosen: bool (B, N), the boxes that the loss is taken over.
    """

    classes: Tensor
    offsets: Tensor
    chosen: Tensor

    @property
    def foreground(self) -> Tensor:
        """The chosen boxes (B, N) that show a sign."""
        return self.chosen & (self.classes != BACKGROUND)


def anchor_targets(anchors: Tensor, places: Tensor, spec: SamplingSpec, *, shuffle: bool) -> Targets:
    """Class 1 for anchors (N, 4) that show a sign or are nearest to one; at most half of the chosen, or one.

    Args:
        anchors: (N, 4).
        places: (B, K, 4) boxes of signs, all zero where a slot is empty.
        spec: how many are chosen.
        shuffle: choose at random, instead of the same ones each time.
    """
    overlaps = iou(anchors, places)
    best, owner = overlaps.max(2)
    nearest = (overlaps == overlaps.amax(1, keepdim=True).clamp(min=1e-6)).any(2)
    shows = (best >= ANCHOR_SIGN) | nearest
    most = max(1, spec.anchors // 2)
    chosen = choose(shows, ~shows & (best < ANCHOR_NONE), spec.anchors, most, shuffle=shuffle)
    return Targets(shows.long(), encode(pick(places, owner), anchors), chosen)


def sample_regions(
    proposals: Tensor, labels: Tensor, places: Tensor, spec: SamplingSpec, *, shuffle: bool
) -> tuple[Tensor, Targets]:
    """Regions (B, N, 4) to learn from, with their targets: the signs themselves, and proposals.

    Args:
        proposals: (B, P, 4).
        labels: int64 (B, K), -1 where a slot is empty.
        places: (B, K, 4).
        spec: how many; N is less where there are too few.
        shuffle: choose at random, instead of the same ones each time.
    """
    regions = torch.cat([places, proposals], 1)
    best, owner = iou(regions, places).max(2)
    shows = best >= REGION_SIGN
    empty = torch.cat([labels < 0, torch.zeros_like(proposals[..., 0], dtype=torch.bool)], 1)
    most = max(1, round(spec.signs * spec.regions))
    chosen = choose(shows, ~shows & ~empty, spec.regions, most, shuffle=shuffle)
    classes = torch.where(shows, labels.gather(1, owner) + 1, BACKGROUND)
    _, first = chosen.float().topk(min(spec.regions, chosen.shape[1]), dim=1)
    regions, owner = pick(regions, first), owner.gather(1, first)
    offsets = in_units(encode(pick(places, owner), regions))
    return regions, Targets(classes.gather(1, first), offsets, chosen.gather(1, first))


def in_units(offsets: Tensor) -> Tensor:
    """Offsets (…, 4) of regions as the network gives them; :func:`from_units` undoes it."""
    return torch.cat([offsets[..., :2] / CENTRE_UNIT, offsets[..., 2:] / SIDE_UNIT], -1)


def from_units(offsets: Tensor) -> Tensor:
    """Offsets (…, 4) of regions from what the network gives."""
    return torch.cat([offsets[..., :2] * CENTRE_UNIT, offsets[..., 2:] * SIDE_UNIT], -1)


def choose(wanted: Tensor, others: Tensor, count: int, most: int, *, shuffle: bool) -> Tensor:
    """At most ``most`` of the wanted, filled up with others to ``count``: bool (B, N).

    Args:
        wanted: bool (B, N).
        others: bool (B, N), nowhere where ``wanted`` is.
        count: per row.
        most: per row.
        shuffle: at random; else spread evenly over the row, always the same.
    """
    order = _keys(wanted, shuffle=shuffle).argsort(1)
    wanted, others = wanted.gather(1, order), others.gather(1, order)
    wanted = wanted & (wanted.cumsum(1) <= most)
    others = others & (others.cumsum(1) <= count - wanted.sum(1, keepdim=True))
    return torch.zeros_like(wanted).scatter(1, order, wanted | others)


def _keys(like: Tensor, *, shuffle: bool) -> Tensor:
    """Sort keys (B, N) in 0…1."""
    if shuffle:
        return torch.rand(like.shape, device=like.device)
    golden = (torch.arange(like.shape[1], device=like.device, dtype=torch.float64) * 0.6180339887498949) % 1
    return golden.expand(like.shape)
