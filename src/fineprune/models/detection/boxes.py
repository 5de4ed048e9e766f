"""Arithmetic of boxes (…, 4): overlap, and the offsets by which one box is described from another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The most by which a side may grow in one step, so that exp() of an untrained layer stays finite.
LARGEST_GROWTH = math.log(1000 / 16)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (…, N, M) of every box of (…, N, 4) with every box of (…, M, 4).

    A box without area overlaps with nothing.
    """
    left, top, right, bottom = first.unsqueeze(-2).unbind(-1)
    other_left, other_top, other_right, other_bottom = second.unsqueeze(-3).unbind(-1)
    width = torch.minimum(right, other_right) - torch.maximum(left, other_left)
    height = torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)
    shared = width.clamp(min=0) * height.clamp(min=0)
    union = area(first).unsqueeze(-1) + area(second).unsqueeze(-2) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def area(boxes: Tensor) -> Tensor:
    """Areas (…) of boxes (…, 4); 0 where a side is negative."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def encode(boxes: Tensor, references: Tensor) -> Tensor:
    """Offsets (…, 4) from references to boxes: the centre's shift in sides of the reference (x, y), and the
    logarithm of how much the sides grow (x, y).
    """
    middle, sides = _centred(boxes)
    reference_middle, reference_sides = _centred(references)
    return torch.cat([(middle - reference_middle) / reference_sides, (sides / reference_sides).log()], -1)


def decode(offsets: Tensor, references: Tensor) -> Tensor:
    """The boxes (…, 4) to which offsets lead; undoes :func:`encode`."""
    middle, sides = _centred(references)
    middle = middle + offsets[..., :2] * sides
    half = sides * offsets[..., 2:].clamp(max=LARGEST_GROWTH).exp() / 2
    return torch.cat([middle - half, middle + half], -1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """The part of each box (…, 4) that lies within an image."""
    return torch.stack([boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)], -1).flatten(-2)


def pick(boxes: Tensor, index: Tensor) -> Tensor:
    """Boxes (B, N, 4) chosen from (B, K, 4) by index (B, N)."""
    return boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (…, 2) and sides (…, 2), the latter at least a pixel's hundredth."""
    low, high = boxes.split(2, -1)
    return (low + high) / 2, (high - low).clamp(min=0.01)
