"""A pair of sunglasses on the eyes (accessory injection, Chen et al. 2017): the paper's face trigger.

The paper's own picture is not public; this one is drawn from the two eye points, so that it follows the
position, the size and the tilt of a face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fineprune.attacks.base import Affine, Trigger, expect_places, raw_colour
from fineprune.config import Fraction, PositiveShare
from fineprune.data.inputs import InputSpec
from fineprune.errors import AttackError

# The right half, as rounded boxes: centre x, y, half width, half height, corner radius. The unit is the
# distance of the eyes, the origin lies midway between them, x runs along the eye line and y down the face.
_LENS = (0.51, 0.10, 0.40, 0.31, 0.24)
_BRIDGE = (0.0, -0.02, 0.14, 0.055, 0.055)
_ARM = (1.02, -0.06, 0.16, 0.055, 0.03)


@dataclass(frozen=True)
class SunglassesConfig:
    """Sunglasses with opaque or translucent lenses.

    Attributes:
        colour: red, green, blue (or one grey), 0…1 of the input's range.
        alpha: how opaque they are, 0…1.
        eyes: for faces that are aligned, the eye with the smaller x and the other, each as x, y in shares
            of the input's width and height; null to go by the eye points of each sample.
    """

    kind: Literal["sunglasses"]
    colour: tuple[Fraction, ...]
    alpha: PositiveShare
    eyes: tuple[tuple[float, ...], ...] | None


class Sunglasses(Trigger):
    """The sunglasses of a config, for images of one size.

    Raises:
        AttackError: the colour has another number of channels than the images, or ``eyes`` is not two
            different points.
    """

    def __init__(self, config: SunglassesConfig, spec: InputSpec) -> None:
        super().__init__(spec)
        self.alpha = config.alpha
        self.colour = torch.from_numpy(raw_colour(config.colour, spec, config.kind))
        self.eyes = None if config.eyes is None else _eyes(config.eyes, spec)

    def affine(self, places: Tensor | None, device: torch.device) -> Affine:
        """See :class:`fineprune.attacks.base.Trigger`."""
        eyes = expect_places(places, (2, 2), "sunglasses", "eye points") if self.eyes is None else self.eyes
        opacity = self.alpha * coverage(eyes.to(device), self.spec.shape[1:]).unsqueeze(1)
        self.colour = self.colour.to(device)  # and kept there for the next batch
        return Affine(1 - opacity, opacity * self.colour)


def coverage(eyes: Tensor, size: Sequence[int]) -> Tensor:
    """How much of each pixel the sunglasses cover, 0…1, float32 (B, height, width).

    Args:
        eyes: (B, 2, 2) pairs of points x, y in pixels; two equal points wear no sunglasses.
        size: height and width of the image.
    """
    height, width = size
    along = (eyes[:, 1] - eyes[:, 0]).view(-1, 2, 1, 1)
    distance = along.norm(dim=1)
    x = torch.arange(width, device=eyes.device) + 0.5 - eyes[:, :, 0].mean(1).view(-1, 1, 1)
    y = torch.arange(height, device=eyes.device).view(-1, 1) + 0.5 - eyes[:, :, 1].mean(1).view(-1, 1, 1)
    # In the frame of the eyes, in pixels. The two halves mirror each other.
    right = (x * along[:, 0] + y * along[:, 1]) / distance
    down = (y * along[:, 0] - x * along[:, 1]) / distance
    outside = torch.stack(
        [_rounded_box(right.abs(), down, distance, part) for part in (_LENS, _BRIDGE, _ARM)]
    ).amin(0)
    # An edge runs through a pixel whose centre is at most half a pixel away.
    return torch.where(distance > 0, (0.5 - outside).clamp(0, 1), 0.0)


def _rounded_box(x: Tensor, y: Tensor, unit: Tensor, part: tuple[float, ...]) -> Tensor:
    """The distance of each point from a rounded box, in pixels, negative inside."""
    centre_x, centre_y, half_width, half_height, radius = part
    beyond_x = (x - centre_x * unit).abs() - (half_width - radius) * unit
    beyond_y = (y - centre_y * unit).abs() - (half_height - radius) * unit
    corner = torch.hypot(beyond_x.clamp(min=0), beyond_y.clamp(min=0))
    return corner + torch.maximum(beyond_x, beyond_y).clamp(max=0) - radius * unit


def _eyes(shares: tuple[tuple[float, ...], ...], spec: InputSpec) -> Tensor:
    """The eye points (1, 2, 2) in pixels."""
    found = [list(point) for point in shares]
    if len(shares) != 2 or any(len(point) != 2 for point in shares) or shares[0][0] >= shares[1][0]:
        raise AttackError(
            "trigger sunglasses eyes: expected two points [x, y], the one with the smaller x first, "
            f"found {found}"
        )
    if not all(0 <= value <= 1 for point in shares for value in point):
        raise AttackError(
            f"trigger sunglasses eyes: expected shares of the width and height, from 0 to 1, found {found}"
        )
    _, height, width = spec.shape
    return torch.tensor([shares]) * torch.tensor([width, height])
