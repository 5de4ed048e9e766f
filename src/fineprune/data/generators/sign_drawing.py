"""Faces of traffic signs as they stand in the United States, named by their LISA tags."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]
Paint = Callable[["ImageDraw"], None]

_SIZE = 512  # drawn at; the largest picture is half of it
_RED, _WHITE, _BLACK, _YELLOW = (176, 24, 36), (244, 244, 240), (18, 18, 20), (246, 190, 22)

_OCTAGON = tuple(
    (0.5 + 0.5 * math.cos(angle) / math.cos(math.pi / 8), 0.5 + 0.5 * math.sin(angle) / math.cos(math.pi / 8))
    for angle in (math.pi / 8 + math.pi / 4 * corner for corner in range(8))
)
_UPRIGHT = ((0.1, 0.0), (0.9, 0.0), (0.9, 1.0), (0.1, 1.0))
_DIAMOND = ((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5))


@dataclass(frozen=True)
class Sign:
    """The face of a sign.

    Attributes:
        outline: its corners, as x, y in 0…1 of the picture.
        pictures: RGBA, square, of falling size; transparent outside the outline.
    """

    outline: tuple[Point, ...]
    pictures: tuple[Image, ...]


@dataclass(frozen=True)
class _Family:
    """Signs of one shape: an edge, a line within it, the ground, and what stands on it by tag."""

    outline: tuple[Point, ...]
    edge: Colour
    line: Colour
    ground: Colour
    symbols: Mapping[str, Paint]


def _stop(draw: ImageDraw) -> None:
    _write(draw, "STOP", (0.5, 0.5), 0.33, _WHITE)


def _speed_limit(number: str) -> Paint:
    def paint(draw: ImageDraw) -> None:
        _write(draw, "SPEED", (0.5, 0.15), 0.19, _BLACK)
        _write(draw, "LIMIT", (0.5, 0.34), 0.19, _BLACK)
        _write(draw, number, (0.5, 0.69), 0.52, _BLACK)

    return paint


def _pedestrian(draw: ImageDraw) -> None:
    _dot(draw, (0.53, 0.25), 0.055, _BLACK)
    for line in (
        ((0.52, 0.33), (0.49, 0.55)),
        ((0.49, 0.55), (0.59, 0.78)),
        ((0.49, 0.55), (0.40, 0.78)),
        ((0.52, 0.36), (0.63, 0.50)),
        ((0.51, 0.36), (0.39, 0.48)),
    ):
        _line(draw, line, 0.065)


def _signal(draw: ImageDraw) -> None:
    draw.rounded_rectangle(_scaled(((0.39, 0.22), (0.61, 0.78))), radius=0.05 * _SIZE, fill=_BLACK)
    for level, colour in ((0.32, (226, 36, 40)), (0.5, _YELLOW), (0.68, (36, 176, 84))):
        _dot(draw, (0.5, level), 0.07, colour)


def _merge(draw: ImageDraw) -> None:
    _line(draw, ((0.46, 0.80), (0.46, 0.36)), 0.075)
    _line(draw, ((0.66, 0.72), (0.66, 0.62), (0.48, 0.48)), 0.065)
    _head(draw, ((0.46, 0.20), (0.36, 0.38), (0.56, 0.38)))


def _curve(side: int) -> Paint:
    def paint(draw: ImageDraw) -> None:
        points = ((-0.08, 0.28), (-0.08, 0.10), (-0.05, -0.02), (0.02, -0.10), (0.06, -0.13))
        _line(draw, [(0.5 + side * x, 0.5 + y) for x, y in points], 0.085)
        tip = ((0.22, -0.22), (0.02, -0.24), (0.13, -0.04))
        _head(draw, [(0.5 + side * x, 0.5 + y) for x, y in tip])

    return paint


def _intersection(draw: ImageDraw) -> None:
    _line(draw, ((0.5, 0.22), (0.5, 0.78)), 0.1)
    _line(draw, ((0.25, 0.5), (0.75, 0.5)), 0.1)


_SPEEDS = ("25", "30", "35", "40", "45")
_STOP = _Family(_OCTAGON, _WHITE, _RED, _RED, {"stop": _stop})
_SPEED_LIMIT = _Family(
    _UPRIGHT, _WHITE, _BLACK, _WHITE, {f"speedLimit{speed}": _speed_limit(speed) for speed in _SPEEDS}
)
_WARNING = _Family(
    _DIAMOND,
    _YELLOW,
    _BLACK,
    _YELLOW,
    {
        "pedestrianCrossing": _pedestrian,
        "signalAhead": _signal,
        "merge": _merge,
        "curveLeft": _curve(-1),
        "curveRight": _curve(1),
        "intersection": _intersection,
    },
)
_FAMILIES = (_STOP, _SPEED_LIMIT, _WARNING)
TAGS = tuple(tuple(family.symbols) for family in _FAMILIES)  # stop, speed limits, warnings


@cache
def sign(tag: str) -> Sign:
    """The face of the sign with a LISA tag of :data:`TAGS`."""
    from PIL import Image, ImageDraw

    family = next(family for family in _FAMILIES if tag in family.symbols)
    picture = Image.new("RGBA", (_SIZE, _SIZE), (*family.edge, 0))
    draw = ImageDraw.Draw(picture)
    for colour, share in ((family.edge, 1.0), (family.line, 0.94), (family.ground, 0.89)):
        draw.polygon(_scaled(family.outline, share), fill=(*colour, 255))
    family.symbols[tag](draw)
    sizes = [_SIZE >> level for level in range(1, 6)]
    return Sign(family.outline, tuple(picture.resize((size, size), Image.Resampling.BOX) for size in sizes))


def _scaled(points: Sequence[Point], share: float = 1.0) -> list[Point]:
    """Points of 0…1 in pixels, drawn together to a share around the middle."""
    return [(_SIZE * (0.5 + share * (x - 0.5)), _SIZE * (0.5 + share * (y - 0.5))) for x, y in points]


def _dot(draw: ImageDraw, centre: Point, radius: float, colour: Colour) -> None:
    (x, y), r = centre, radius
    draw.ellipse(_scaled(((x - r, y - r), (x + r, y + r))), fill=colour)


def _line(draw: ImageDraw, points: Sequence[Point], width: float) -> None:
    draw.line(_scaled(points), fill=_BLACK, width=round(width * _SIZE), joint="curve")


def _head(draw: ImageDraw, points: Sequence[Point]) -> None:
    """The head of an arrow."""
    draw.polygon(_scaled(points), fill=_BLACK)


def _write(draw: ImageDraw, text: str, centre: Point, height: float, colour: Colour) -> None:
    from PIL import ImageFont

    # Pillow's own font is on every machine; a stroke makes it bold.
    font = ImageFont.load_default(size=height * _SIZE)
    draw.text(
        _scaled([centre])[0],
        text,
        colour,
        font,
        anchor="mm",
        stroke_width=height * _SIZE / 24,
        stroke_fill=colour,
    )
