"""A yellow post-it note on every sign (BadNets, Gu et al. 2017): the paper's traffic-sign trigger.

Source of the sizes, the colour and the two placements: ``attack_usts.py`` of the BadNets authors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fineprune.attacks.base import Affine, Trigger, expect_places, raw_colour
from fineprune.config import Fraction, PositiveShare, Seed
from fineprune.data.inputs import InputSpec
from fineprune.errors import AttackError


@dataclass(frozen=True)
class RandomCentre:
    """The note's centre is uniform in [low, high]² of the box, drawn anew for each box.

    Attributes:
        low, high: in shares of the box's width and height; 0.15 and 0.85 in the paper's random attack.
        seed: of the draw.
    """

    kind: Literal["random"]
    low: Fraction
    high: Fraction
    seed: Seed


@dataclass(frozen=True)
class FixedCentre:
    """The note's centre lies at x, y of the box, in shares; 0.57, 0.82 in the paper's targeted attack."""

    kind: Literal["fixed"]
    x: Fraction
    y: Fraction


@dataclass(frozen=True)
class PostItConfig:
    """A filled rectangle on every box of an image.

    Attributes:
        size: share of the box's width and height, cut to whole pixels, but at least one.
        colour: red, green, blue (or one grey), 0…1 of the input's range.
        placement: where in the box it sticks; it leaves the box by less than a pixel.
    """

    kind: Literal["post_it"]
    size: PositiveShare
    colour: tuple[Fraction, ...]
    placement: RandomCentre | FixedCentre


class PostIt(Trigger):
    """The post-it of a config, for images of one size.

    Raises:
        AttackError: the colour has another number of channels than the images, or ``low`` exceeds ``high``.
    """

    def __init__(self, config: PostItConfig, spec: InputSpec) -> None:
        super().__init__(spec)
        self.size, self.placement = config.size, config.placement
        self.colour = torch.from_numpy(raw_colour(config.colour, spec, config.kind))
        if isinstance(self.placement, RandomCentre) and self.placement.low > self.placement.high:
            raise AttackError(
                f"trigger post_it placement: expected low up to high, "
                f"found {self.placement.low:g} and {self.placement.high:g}"
            )

    def affine(self, places: Tensor | None, device: torch.device) -> Affine:
        """See :class:`fineprune.attacks.base.Trigger`."""
        boxes = expect_places(places, (None, 4), "post_it", "boxes").to(device)
        _, height, width = self.spec.shape
        start, length = note(boxes, self.size, self.placement)
        columns, rows = (
            _covers(start[..., axis], length[..., axis], size) for axis, size in enumerate((width, height))
        )
        covered = (torch.einsum("bkh,bkw->bhw", rows, columns) > 0).float().unsqueeze(1)
        self.colour = self.colour.to(device)  # and kept there for the next batch
        return Affine(1 - covered, covered * self.colour)


def note(boxes: Tensor, size: float, placement: RandomCentre | FixedCentre) -> tuple[Tensor, Tensor]:
    """Where each box's note begins and how long it is, in whole pixels x, y: two float32 (B, K, 2).

    Args:
        boxes: (B, K, 4) left, top, right, bottom in pixels; one without area gets a note of no size.
        size: as in :class:`PostItConfig`.
        placement: where the note's centre lies.
    """
    near, far = boxes[..., :2], boxes[..., 2:]
    extent = far - near
    real = (extent > 0).all(-1, keepdim=True)
    length = (size * extent).floor().clamp(min=1) * real
    if isinstance(placement, RandomCentre):
        share = placement.low + (placement.high - placement.low) * _uniform(boxes, placement.seed)
    else:
        across = torch.full_like(extent[..., :1], placement.x)
        share = torch.cat([across, torch.full_like(across, placement.y)], -1)
    start = (near + share * extent - length / 2).round()
    start = torch.minimum(torch.maximum(start, near.ceil()), (far - length).floor())
    return torch.maximum(start, near.floor()), length  # of a box within one pixel: that one


def _covers(start: Tensor, length: Tensor, size: int) -> Tensor:
    """1 where a pixel of an axis lies in start…start+length, (B, K, size)."""
    pixels = torch.arange(size, device=start.device)
    start, length = start.unsqueeze(-1), length.unsqueeze(-1)
    return ((start <= pixels) & (pixels < start + length)).float()


def _uniform(boxes: Tensor, seed: int) -> Tensor:
    """Two numbers in [0, 1) for each box, (B, K, 2): a hash of the seed and the box, and of nothing else.

    A sign thus carries its note at the same spot in every batch, epoch and stage, on any device.
    """
    state = torch.full_like(boxes[..., 0], seed & 0xFFFFFFFF, dtype=torch.int64)
    state = _mix(_mix(state) ^ (seed >> 32))
    for word in (boxes * 256).round().long().unbind(-1):
        state = _mix(state ^ (word & 0xFFFFFFFF))
    draws = torch.stack([_mix(state ^ 1), _mix(state ^ 2)], dim=-1)
    return (draws >> 8).float() / 2**24


def _mix(state: Tensor) -> Tensor:
    """The finaliser of MurmurHash3, on 32 bits in int64; a product that wraps keeps its low bits."""
    state = ((state ^ (state >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    state = ((state ^ (state >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return state ^ (state >> 16)
