"""Where the signs of a street stand, how they are turned, and how they are put on a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fineprune.data.generators.sign_drawing import TAGS, sign

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom edges in pixels
Points = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

_TRIES = 30
_FINER = 3  # a sign is drawn so much finer than the frame and averaged
_DISTANCE = 3.0  # of the camera from a sign, in sizes of the sign: how strong perspective is
_CORNERS = np.array(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))


@dataclass(frozen=True)
class Leaf:
    """Something before a sign: centre and radius in sizes of the sign."""

    x: float
    y: float
    radius: float
    colour: Colour


@dataclass(frozen=True)
class PlacedSign:
    """A sign of a street.

    Attributes:
        tag: of LISA.
        ahead: the point on the horizon from which it comes, x and y in pixels.
        at: its centre when it is nearest.
        sizes: in the first and in the last frame, in pixels.
        corners: (4, 2), of its square as it is turned, in sizes, around (0, 0).
        outline: (n, 2), of its shape, likewise.
        bright: how its light compares with the street's.
        pole: length, in sizes.
        leaves: what hides a part of it.
    """

    tag: str
    ahead: tuple[float, float]
    at: tuple[float, float]
    sizes: tuple[float, float]
    corners: Points
    outline: Points
    bright: float
    pole: float
    leaves: tuple[Leaf, ...]

    @property
    def occluded(self) -> bool:
        """Whether something hides a part of it."""
        return bool(self.leaves)

    def box(self, nearness: float) -> Box:
        """The box of its outline in a frame, from the first (0) to the last (1)."""
        centre, size = self._seen(nearness)
        left, top = np.floor(centre + size * self.outline.min(0)).astype(int)
        right, bottom = np.ceil(centre + size * self.outline.max(0)).astype(int)
        return int(left), int(top), int(right), int(bottom)

    def draw_pole(self, frame: Image, nearness: float) -> None:
        """Draw what it stands on."""
        from PIL import ImageDraw

        (x, y), size = self._seen(nearness)
        ends = (x, y), (x, y + self.pole * size)
        ImageDraw.Draw(frame).line(ends, fill=(122, 124, 126), width=max(1, round(0.07 * size)))

    def draw(self, frame: Image, nearness: float) -> None:
        """Draw it on a frame."""
        from PIL import ImageDraw, ImageEnhance

        (x, y), size = self._seen(nearness)
        box = self.box(nearness)
        picture = _turned(self.tag, (x, y) + size * self.corners, box)
        lit = ImageEnhance.Brightness(picture.convert("RGB")).enhance(self.bright)
        frame.paste(lit, box, picture.getchannel("A"))
        for leaf in self.leaves:
            at_x, at_y, radius = x + leaf.x * size, y + leaf.y * size, leaf.radius * size
            around = at_x - radius, at_y - radius, at_x + radius, at_y + radius
            ImageDraw.Draw(frame).ellipse(around, fill=leaf.colour)

    def _seen(self, nearness: float) -> tuple[Points, float]:
        """Its centre and its size in a frame; it grows evenly, by a factor per frame."""
        first, last = self.sizes
        size = first * (last / first) ** nearness
        ahead = np.array(self.ahead)
        return ahead + (np.array(self.at) - ahead) * size / last, size


def place_signs(
    size: tuple[int, int], sizes: tuple[int, int], most: int, horizon: float, rng: np.random.Generator
) -> list[PlacedSign]:
    """One to ``most`` signs, beside the road and none before another.

    Args:
        size: (height, width) of a frame, in pixels.
        sizes: the smallest and the largest that a sign may be, in pixels.
        most: fewer are placed where there is no room.
        horizon: in heights from the top.
        rng: what decides on the rest.
    """
    wanted = int(rng.integers(1, most + 1))
    placed: list[PlacedSign] = []
    for _ in range(_TRIES):
        candidate = _place(size, sizes, horizon, rng)
        if not any(_meet(candidate, other) for other in placed):
            placed.append(candidate)
        if len(placed) == wanted:
            break
    return placed


def _place(
    size: tuple[int, int], sizes: tuple[int, int], horizon: float, rng: np.random.Generator
) -> PlacedSign:
    """A sign that is within every frame, because it is within the last."""
    height, width = size
    low, high = np.log(sizes)
    first, last = np.sort(np.exp(rng.uniform(low, high, 2)))
    reach = 0.6 * last  # turned, a sign may reach a little out of its square
    aside = rng.uniform(reach, max(reach, 0.4 * width))
    family = TAGS[rng.integers(len(TAGS))]
    tag, corners = family[rng.integers(len(family))], _turn(rng)
    return PlacedSign(
        tag=tag,
        ahead=(0.5 * width, horizon * height),
        at=(
            aside if rng.random() < 0.3 else width - aside,  # they mostly stand on the right
            rng.uniform(reach, max(reach, min(height - reach, (horizon + 0.15) * height))),
        ),
        sizes=(float(first), float(last)),
        corners=corners,
        outline=_warp(_projection(_CORNERS, corners), np.array(sign(tag).outline)),
        bright=rng.uniform(0.7, 1.1),
        pole=rng.uniform(1.5, 2.8),
        leaves=_leaves(rng) if rng.random() < 0.15 else (),
    )


def _turn(rng: np.random.Generator) -> Points:
    """The corners (4, 2) of a square of size 1, turned and seen from near."""
    yaw, pitch, roll = np.clip(rng.standard_normal(3) * (0.35, 0.12, 0.05), -0.8, 0.8)
    x, y = (_CORNERS - 0.5).T
    x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    depth = 1 + (x * np.sin(yaw) + y * np.sin(pitch)) / _DISTANCE
    return np.stack([x * np.cos(yaw) / depth, y * np.cos(pitch) / depth], axis=1)


def _leaves(rng: np.random.Generator) -> tuple[Leaf, ...]:
    """A branch over an edge."""
    angle, green = rng.uniform(0, 2 * np.pi), rng.uniform(45, 105)
    colour = int(0.7 * green), int(green), int(0.5 * green)
    spots = rng.normal(0, 0.1, (5, 2)) + 0.5 * np.array((np.cos(angle), np.sin(angle)))
    return tuple(Leaf(float(x), float(y), rng.uniform(0.08, 0.15), colour) for x, y in spots)


def _meet(one: PlacedSign, other: PlacedSign) -> bool:
    """Whether their boxes touch at some time."""
    for nearness in np.linspace(0, 1, 9):
        a, b = one.box(float(nearness)), other.box(float(nearness))
        if a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]:
            return True
    return False


def _turned(tag: str, corners: Points, box: Box) -> Image:
    """The sign's picture with its corners there, as large as the box."""
    from PIL import Image

    size = box[2] - box[0], box[3] - box[1]
    wanted = _FINER * max(size)
    pictures = sign(tag).pictures
    source = next((picture for picture in reversed(pictures) if picture.width >= wanted), pictures[0])
    back = _projection(_FINER * (corners - np.array(box[:2])), source.width * _CORNERS)
    fine = source.transform(
        (_FINER * size[0], _FINER * size[1]),
        Image.Transform.PERSPECTIVE,
        (back / back[2, 2]).ravel()[:8].tolist(),
        Image.Resampling.BILINEAR,
    )
    return fine.reduce(_FINER)


def _projection(source: Points, target: Points) -> Points:
    """The projection (3, 3) that takes four points (4, 2) to four points."""
    rows, values = [], []
    for (x, y), (to_x, to_y) in zip(source, target, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -x * to_x, -y * to_x), (0, 0, 0, x, y, 1, -x * to_y, -y * to_y)]
        values += [to_x, to_y]
    return np.append(np.linalg.solve(np.array(rows), np.array(values)), 1.0).reshape(3, 3)


def _warp(projection: Points, points: Points) -> Points:
    """Points (n, 2) under a projection."""
    moved = np.column_stack([points, np.ones(len(points))]) @ projection.T
    warped: Points = moved[:, :2] / moved[:, 2:]
    return warped
