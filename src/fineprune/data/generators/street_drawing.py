"""A street without signs: sky, hills, houses, a road, trees, poles, cars, and boards that are no signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Colour = tuple[int, int, int]


def street(height: int, width: int, horizon: float, rng: np.random.Generator) -> Image:
    """A street.

    Args:
        height: in pixels.
        width: in pixels.
        horizon: where the road ends, in heights from the top.
        rng: what decides on everything else.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(_sky_and_ground(height, width, horizon, rng))
    painter = _Painter(ImageDraw.Draw(picture), height, width, horizon, rng)
    painter.hills()
    painter.road()
    for _ in range(rng.integers(2, 6)):
        painter.house()
    # What is far is drawn first, and so stands behind.
    things = [painter.tree, painter.pole, painter.car, painter.board]
    for depth in np.sort(rng.uniform(0.08, 0.5, rng.integers(5, 14))):
        things[rng.choice(4, p=(0.4, 0.2, 0.2, 0.2))](float(depth))
    return picture


def _sky_and_ground(
    height: int, width: int, horizon: float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """(height, width, 3): two gradients with clouds and patches."""
    from PIL import Image

    sky = np.array((rng.uniform(110, 190), rng.uniform(150, 205), rng.uniform(190, 245)))
    haze = 0.35 * sky + 0.65 * rng.uniform(190, 245)
    ground = rng.uniform(60, 120) * np.array((rng.uniform(0.8, 1.15), 1.0, rng.uniform(0.6, 0.85)))
    down = (np.arange(height) / height)[:, None, None]
    rows = np.where(down < horizon, sky + (haze - sky) * down / horizon, ground * (0.8 + 0.4 * down))
    coarse = rng.integers(0, 256, (9, 12), dtype=np.uint8)
    patches = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(rows + (patches[..., None] - 128.0) * 0.22, 0, 255).astype(np.uint8)


class _Painter:
    """Draws things at depths: 1 is as large as the picture's height, 0 is at the horizon."""

    def __init__(
        self, draw: ImageDraw, height: int, width: int, horizon: float, rng: np.random.Generator
    ) -> None:
        self.draw, self.height, self.width, self.rng = draw, height, width, rng
        self.level = horizon * height

    def hills(self) -> None:
        ends = np.linspace(0, self.width, 14)
        tops = self.level - self.height * self.rng.uniform(0.01, 0.1, 14)
        line = [(float(x), float(y)) for x, y in zip(ends, tops, strict=True)]
        self.draw.polygon([*line, (self.width, self.level), (0, self.level)], fill=self._green(0.8))

    def road(self) -> None:
        grey = self.rng.uniform(70, 125)
        middle, left, right = self.width * np.array(
            (0.5, self.rng.uniform(-0.5, 0.1), self.rng.uniform(0.9, 1.5))
        )
        foot = float(self.height)
        self.draw.polygon(
            [(middle - 3, self.level), (middle + 3, self.level), (right, foot), (left, foot)],
            fill=self._colour(grey, grey, grey * 1.03),
        )
        paint = self._colour(*((222, 186, 70) if self.rng.random() < 0.5 else (225, 225, 220)))
        centre = (left + right) / 2
        for near in np.geomspace(0.03, 1.0, 8):
            far = near * 0.8
            ends = [
                (middle + (centre - middle) * d, self.level + (foot - self.level) * d) for d in (far, near)
            ]
            self.draw.line(ends, fill=paint, width=max(1, round(0.03 * near * self.height)))

    def house(self) -> None:
        size = self.height * self.rng.uniform(0.15, 0.55)
        x, wide = self._beside(0.1), size * self.rng.uniform(0.8, 1.8)
        top, foot = self.level - 0.75 * size, self.level + 0.25 * size
        wall = self._colour(*(self.rng.uniform(70, 225) + self.rng.uniform(-30, 30, 3)))
        self.draw.rectangle((x - wide / 2, top, x + wide / 2, foot), fill=wall)
        if self.rng.random() < 0.6:
            roof = [(x - 0.55 * wide, top), (x + 0.55 * wide, top), (x, top - 0.35 * size)]
            self.draw.polygon(roof, fill=self._colour(*self.rng.uniform(50, 140, 3)))
        pane = self._colour(*(self.rng.uniform(40, 200) + self.rng.uniform(-15, 25, 3)))
        columns, rows = self.rng.integers(2, 5), self.rng.integers(1, 4)
        for column in range(columns):
            for row in range(rows):
                left = x + wide * ((column + 0.3) / columns - 0.5)
                upper = top + 0.9 * size * (row + 0.25) / rows
                self.draw.rectangle(
                    (left, upper, left + 0.4 * wide / columns, upper + 0.45 * size / rows), fill=pane
                )

    def tree(self, depth: float) -> None:
        x, foot, size = self._beside(depth), self._foot(depth), 1.1 * depth * self.height
        trunk = self._colour(*(np.array((85, 62, 45)) * self.rng.uniform(0.6, 1.2)))
        self.draw.rectangle((x - 0.05 * size, foot - 0.5 * size, x + 0.05 * size, foot), fill=trunk)
        green = self._green(1.0)
        for _ in range(9):
            at_x, at_y = x + size * self.rng.normal(0, 0.16), foot - size * self.rng.normal(0.75, 0.14)
            radius = size * self.rng.uniform(0.1, 0.22)
            shade = self._colour(*(np.array(green) * self.rng.uniform(0.75, 1.2)))
            self.draw.ellipse((at_x - radius, at_y - radius, at_x + radius, at_y + radius), fill=shade)

    def pole(self, depth: float) -> None:
        x, foot, size = self._beside(depth), self._foot(depth), 1.7 * depth * self.height
        grey = self._colour(*([self.rng.uniform(50, 170)] * 3))
        wide = max(1, round(0.03 * size))
        self.draw.line(((x, foot), (x, foot - size)), fill=grey, width=wide)
        arm = size * self.rng.uniform(-0.3, 0.3)
        self.draw.line(((x, foot - 0.95 * size), (x + arm, foot - 0.97 * size)), fill=grey, width=wide)

    def car(self, depth: float) -> None:
        size, foot = 0.8 * depth * self.height, self._foot(depth)
        x = self.width * self.rng.uniform(0.2, 0.8)
        body = self._colour(*self.rng.uniform(20, 235, 3))
        half = 0.5 * size
        self.draw.rounded_rectangle(
            (x - 0.8 * half, foot - 0.8 * size, x + 0.8 * half, foot), half / 4, fill=body
        )
        self.draw.rectangle(
            (x - 0.65 * half, foot - 0.72 * size, x + 0.65 * half, foot - 0.48 * size), fill=(40, 46, 54)
        )
        self.draw.rounded_rectangle(
            (x - half, foot - 0.45 * size, x + half, foot - 0.1 * size), half / 5, fill=body
        )
        for side in (-1, 1):
            at = x + side * 0.8 * half
            self.draw.rectangle(
                (at - 0.13 * half, foot - 0.38 * size, at + 0.13 * half, foot - 0.25 * size),
                fill=(190, 26, 24),
            )
            self.draw.rectangle(
                (at - 0.15 * half, foot - 0.1 * size, at + 0.15 * half, foot), fill=(20, 20, 22)
            )

    def board(self, depth: float) -> None:
        """A board, a shop's sign or a lamp: coloured, and of none of the shapes that traffic signs have."""
        size, x = depth * self.height * self.rng.uniform(0.3, 0.8), self._beside(depth)
        middle = self._foot(depth) - depth * self.height * self.rng.uniform(0.5, 1.3)
        colour = self._colour(*self.rng.uniform(15, 245, 3))
        wide, high = size * self.rng.uniform(0.9, 1.6), size * self.rng.uniform(0.25, 0.5)
        box = (x - wide / 2, middle - high / 2, x + wide / 2, middle + high / 2)
        if self.rng.random() < 0.3:
            self.draw.ellipse((x - high, middle - high, x + high, middle + high), fill=colour)
            return
        self.draw.rectangle(box, fill=colour)
        ink = self._colour(*self.rng.uniform(15, 245, 3))
        for row in range(self.rng.integers(1, 4)):
            level = box[1] + high * (0.25 + 0.25 * row)
            reach = wide * self.rng.uniform(0.2, 0.42)
            self.draw.line(((x - reach, level), (x + reach, level)), fill=ink, width=max(1, round(high / 9)))

    def _beside(self, depth: float) -> float:
        """A place across, off the middle of the road."""
        side = -1 if self.rng.random() < 0.5 else 1
        return self.width * (0.5 + side * self.rng.uniform(0.12 + 0.3 * depth, 0.55))

    def _foot(self, depth: float) -> float:
        return self.level + 0.6 * depth * (self.height - self.level)

    def _green(self, bright: float) -> Colour:
        tone = bright * self.rng.uniform(45, 115)
        return self._colour(tone * self.rng.uniform(0.6, 1.1), tone, tone * self.rng.uniform(0.4, 0.7))

    def _colour(self, red: float, green: float, blue: float) -> Colour:
        clipped = np.clip((red, green, blue), 0, 255)
        return int(clipped[0]), int(clipped[1]), int(clipped[2])
