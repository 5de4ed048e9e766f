"""How a face is drawn: a person under a light and in poses, every shape with a soft edge of one pixel.

Coordinates of the face: u to the right, v down, (0, 0) between the cheeks, half the head's width is 1. The
features lie on a plane before the head, so that a turn of the head shifts and narrows them. All frames of
a session are drawn at once, as arrays (F, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]  # float32 throughout
Colour = npt.NDArray[np.floating[Any]]

_FIT = 0.39  # half the head's width, in widths of the picture
_DEPTH, _NOSE_DEPTH = 0.35, 0.5  # how far the features stand before the head's axis
_DARK = np.array([28, 20, 18], dtype=np.float32)
_WHITE = np.array([236, 232, 228], dtype=np.float32)


@dataclass(frozen=True)
class Person:
    """What makes one person; lengths in halves of the head's width, colours are RGB 0…255."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    style: str  # of the hair: bald, short, parted, fringe, long, curly
    squareness: float  # exponent of the head's outline, 2 is an ellipse
    jaw: float  # how much narrower the head is at the chin
    height: float  # of the head
    ears: float
    cheeks: float  # how red they are
    hairline: float
    parting: float
    volume: float  # of the hair
    eye_spacing: float
    eye_level: float
    eye_width: float
    eye_height: float
    eye_slant: float
    brow_level: float
    brow_thickness: float
    brow_arch: float
    brow_slant: float
    nose_length: float
    nose_width: float
    mouth_level: float
    mouth_width: float
    lip_thickness: float
    beard: float  # how dense, 0 for none
    beard_line: float  # where it begins at the ears
    moustache: float  # how dense


@dataclass(frozen=True)
class Light:
    """What a session looks like besides the person."""

    direction: tuple[float, float, float]  # to the light, of unit length: right, down, towards the viewer
    contrast: float
    colour: Colour  # gain of each channel
    top: Colour  # the background
    bottom: Colour
    blob: Colour
    blob_at: tuple[float, float, float]  # its centre and radius, in widths of the picture
    shirt: Colour


@dataclass(frozen=True)
class Poses:
    """The frames of a session, each value an array (F, 1, 1)."""

    x: Floats  # shifts, in widths of the picture
    y: Floats
    scale: Floats
    roll: Floats  # angles in radians
    yaw: Floats
    pitch: Floats
    smile: Floats  # −1…1
    opening: Floats  # of the mouth, 0…1
    lids: Floats  # 0 shut … 1 open
    brows: Floats  # how far they are raised
    gaze: Floats  # −1…1


def draw(person: Person, light: Light, poses: Poses, height: int, width: int) -> tuple[Floats, Floats]:
    """The frames of a session.

    Returns:
        Pictures (3, F, height, width) in 0…255, and the centres of both eyes (F, 2, 2) as x, y in pixels,
        the left one in the picture first.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    unit = _FIT * width * poses.scale
    centre_x, centre_y = (0.5 + poses.x) * width, 0.5 * height + poses.y * width
    cos, sin = np.cos(poses.roll), np.sin(poses.roll)
    right, down = (x - centre_x) / unit, (y - centre_y) / unit
    face = _Face(person, poses, cos * right + sin * down, cos * down - sin * right, 1 / unit)
    face.paint_all(_background(light, x / width, y / width, height / width), light)
    # The way back, from the face to the picture: an eye at ±eye_spacing on the plane of the features.
    eye_u = np.array([-1, 1]) * person.eye_spacing * np.cos(poses.yaw) + _DEPTH * np.sin(poses.yaw)
    eye_v = person.eye_level + _DEPTH * np.sin(poses.pitch)
    eyes_x = centre_x + unit * (cos * eye_u - sin * eye_v)
    eyes_y = centre_y + unit * (sin * eye_u + cos * eye_v)
    return face.canvas, np.stack([eyes_x, eyes_y], axis=-1)[:, 0].astype(np.float32)


class _Face:
    """A canvas (3, F, H, W), and where its pixels are on the face (F, H, W)."""

    def __init__(self, person: Person, poses: Poses, u: Floats, v: Floats, pixel: Floats) -> None:
        self.person, self.poses, self.u, self.v, self.pixel = person, poses, u, v, pixel
        self.canvas = np.empty((3, *u.shape), dtype=np.float32)
        self.solid = np.zeros(u.shape, dtype=np.float32)  # how much of a pixel is head or hair
        self.plane = self._plane(_DEPTH)

    def paint_all(self, background: Floats, light: Light) -> None:
        self.canvas[:] = background
        self._body(light.shirt)
        self._back_hair()
        cover = self._solid(self._head(), self.person.skin)
        self._cheeks(cover)
        self._beard(cover)
        self._nose()
        self._mouth()
        for side in (-1, 1):
            self._eye(side)
            self._brow(side)
        self._front_hair()
        self._shade(light)

    def _paint(self, distance: Floats, colour: Colour, density: float | Floats = 1.0) -> Floats:
        """Colour where the distance is negative, over an edge of one pixel; returns the cover."""
        cover = np.clip(0.5 - distance / self.pixel, 0, 1)
        self._tint(cover * density, colour)
        return cover

    def _solid(self, distance: Floats, colour: Colour) -> Floats:
        """Paint what belongs to the head, on which the light falls."""
        cover = self._paint(distance, colour)
        np.maximum(self.solid, cover, out=self.solid)
        return cover

    def _tint(self, cover: Floats, colour: Colour) -> None:
        """Colour as far as the cover says, 0…1."""
        self.canvas += cover * (colour.reshape(3, 1, 1, 1) - self.canvas)

    def _plane(self, depth: float) -> tuple[Floats, Floats]:
        """Coordinates on a plane so far before the head's axis, which turns with the head."""
        u = (self.u - depth * np.sin(self.poses.yaw)) / np.cos(self.poses.yaw)
        return u, self.v - depth * np.sin(self.poses.pitch)

    def _head(self, grown: float = 0.0) -> Floats:
        """Distance to the outline of the head."""
        person = self.person
        below = np.clip(self.v / person.height, 0, 1)
        half = 1 - person.jaw * below**2
        n = person.squareness
        radius = np.abs(self.u / (half + grown)) ** n + np.abs(self.v / (person.height + grown)) ** n
        distance: Floats = (radius ** (1 / n) - 1) * half
        return distance

    def _body(self, shirt: Colour) -> None:
        self._paint(_ellipse(self.u, self.v, (0, 2.1), (1.9, 0.7)), shirt)
        neck = np.maximum(np.abs(self.u) - 0.55, np.abs(self.v - 1.1) - 0.5)
        self._paint(neck, self.person.skin * 0.7)
        for side in (-1, 1):
            ear = side * 1.0 - 0.15 * np.sin(self.poses.yaw), 0.05
            self._solid(_ellipse(self.u, self.v, ear, (0.15, self.person.ears)), self.person.skin * 0.85)

    def _back_hair(self) -> None:
        person, u, v = self.person, self.u, self.v
        if person.style not in ("long", "curly"):
            return
        reach = 1.08 + 0.25 * person.volume
        cap = _ellipse(u, v, (0, -0.15), (reach, person.height - 0.05 + 0.25 * person.volume))
        if person.style == "curly":
            cap = cap + 0.07 * np.sin(9 * np.arctan2(v + 0.15, u))
            self._solid(np.maximum(cap, v - 0.5), person.hair * 0.85)
            return
        curtain = np.maximum(np.abs(u) - reach, np.abs(v - 0.75) - 0.9)
        self._solid(np.minimum(cap, curtain), person.hair * 0.85)

    def _cheeks(self, cover: Floats) -> None:
        u, v = self.plane
        red = self.person.skin * np.array([1.02, 0.72, 0.72], dtype=np.float32)
        for side in (-1, 1):
            spot = np.exp(-(((u - side * 0.55) / 0.25) ** 2) - ((v - 0.32) / 0.2) ** 2)
            self._tint(cover * spot * self.person.cheeks, red)

    def _beard(self, cover: Floats) -> None:
        person, (u, v) = self.person, self.plane
        colour = person.hair * 0.8 + person.skin * 0.1
        lip = person.mouth_level
        if person.beard > 0:
            inwards = np.sqrt(np.clip(1 - np.abs(u) / 0.85, 0, 1))
            line = person.beard_line + (lip - 0.12 - person.beard_line) * inwards
            around = np.clip(0.5 + (v - line) / 0.12, 0, 1)
            self._tint(cover * around * person.beard, colour)
        if person.moustache > 0:
            droop = 0.35 * u**2
            bar = np.maximum(np.abs(v - (lip - 0.13) - droop) - 0.06, np.abs(u) - person.mouth_width * 0.95)
            self._paint(bar, colour, person.moustache)

    def _nose(self) -> None:
        person = self.person
        u, v = self._plane(_NOSE_DEPTH)
        top, tip = person.eye_level, person.eye_level + person.nose_length
        along = np.clip((v - top) / (tip - top), 0, 1)
        half = person.nose_width * (0.35 + 0.65 * along**1.5)
        within = np.clip((v - top) / 0.15, 0, 1) * np.clip((tip - v) / 0.06 + 0.5, 0, 1)
        for side in (-1, 1):
            edge = np.exp(-(((u - side * half) / 0.055) ** 2))
            self._tint(within * edge * 0.5, self.person.skin * 0.62)
        self._tint(within * np.exp(-((u / 0.06) ** 2)) * 0.45, np.minimum(self.person.skin * 1.18, 255))
        under = np.exp(-(((v - tip - 0.03) / 0.05) ** 2) - (u / (1.1 * person.nose_width)) ** 4)
        self._tint(under * 0.55, self.person.skin * 0.55)
        for side in (-1, 1):
            hole = _ellipse(u, v, (side * person.nose_width * 0.55, tip), (0.07, 0.04))
            self._paint(hole, _DARK, 0.75)

    def _mouth(self) -> None:
        person, poses, (u, v) = self.person, self.poses, self.plane
        half = person.mouth_width * (1 + 0.15 * poses.smile)
        bend = 0.22 * poses.smile * ((u / half) ** 2 - 0.5)
        lips, gap = person.lip_thickness, 0.17 * poses.opening
        middle = person.mouth_level
        taper = np.sqrt(np.clip(1 - (u / half) ** 2, 0, 1))
        level = v - middle + bend
        upper = np.abs(level + gap * taper) - lips * 0.8 * taper
        lower = np.abs(level - gap * taper - lips * 0.4) - lips * 1.1 * taper
        inside = np.abs(level) - gap * taper
        outside = np.abs(u) - half
        self._paint(np.maximum(np.minimum(upper, lower), outside), person.lips)
        self._paint(np.maximum(inside, outside), _DARK * 1.6)
        teeth = np.maximum(inside + 0.02, level + gap * taper * 0.2)
        self._paint(np.maximum(teeth, outside + 0.06), _WHITE)
        line = np.maximum(np.abs(level) - 0.018, outside)
        self._paint(line, person.lips * 0.45, np.clip(1 - 4 * poses.opening, 0.0, 1))

    def _eye(self, side: int) -> None:
        person, poses, (u, v) = self.person, self.poses, self.plane
        u = u - side * person.eye_spacing
        v = v - person.eye_level + side * person.eye_slant * u
        socket = np.exp(-((u / (1.5 * person.eye_width)) ** 2) - ((v + 0.02) / 0.2) ** 2)
        self._tint(socket * 0.35, person.skin * 0.6)
        bow = np.clip(1 - (u / person.eye_width) ** 2, 0, 1)
        upper, lower = -person.eye_height * poses.lids * bow, person.eye_height * 0.75 * bow
        ball = np.maximum(np.maximum(upper - v, v - lower), np.abs(u) - person.eye_width)
        self._paint(ball, _WHITE)
        iris = person.eye_height * 0.95
        centre = poses.gaze * 0.35 * person.eye_width, 0.0
        self._paint(np.maximum(ball, _ellipse(u, v, centre, (iris, iris))), person.iris)
        self._paint(np.maximum(ball, _ellipse(u, v, centre, (iris * 0.5, iris * 0.5))), _DARK)
        lash = np.maximum(np.abs(v - upper) - 0.03, np.abs(u) - person.eye_width * 1.05)
        self._paint(lash, _DARK, 0.85)

    def _brow(self, side: int) -> None:
        person, poses, (u, v) = self.person, self.poses, self.plane
        u = (u - side * person.eye_spacing) * side  # outwards
        half = person.eye_width * 1.35
        level = person.eye_level - person.brow_level - 0.1 * poses.brows
        level = level + person.brow_arch * (u / half) ** 2 - person.brow_slant * u
        thick = person.brow_thickness * (1 - 0.35 * np.clip(u / half, -1, 1))
        self._paint(np.maximum(np.abs(v - level) - thick, np.abs(u) - half), person.hair * 0.7, 0.9)

    def _front_hair(self) -> None:
        person, u, v = self.person, self.u, self.v
        if person.style == "bald":
            return
        lines = {
            "short": person.hairline + 0.35 * u**4,
            "curly": person.hairline + 0.15 + 0.05 * np.sin(12 * u + 9 * person.parting),
            "fringe": person.hairline + 0.42 + 0.04 * np.sin(8 * u + 9 * person.parting),
            "parted": person.hairline + 0.75 * np.abs(u - person.parting) ** 1.3,
            "long": person.hairline + 0.55 * np.abs(u - person.parting) ** 1.5 + 0.8 * np.abs(u) ** 6,
        }
        lowest = person.eye_level - person.brow_level + 0.08  # hair in the eyes would hide them
        line = v - np.minimum(lines[person.style], lowest)
        grown = self._head(0.06 + 0.16 * person.volume)
        sideburns = np.maximum(0.93 - np.abs(u), v - 0.15)  # before the ears
        cap = np.maximum(grown, np.minimum(line, sideburns))
        strands = 0.1 * np.sin(14 * np.arctan2(u - person.parting, 1.6 - v))
        cover = self._solid(cap, person.hair)
        self.canvas *= 1 + cover * strands

    def _shade(self, light: Light) -> None:
        """The head as an ellipsoid under the light; then the colour of the light on everything."""
        right, down, front = light.direction
        u, v = self.u * 0.85, self.v * 0.85 / self.person.height
        depth = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
        facing = np.clip(right * u + down * v + front * depth, 0, None)
        self.canvas *= 1 + self.solid * light.contrast * (1.5 * facing - 1)
        self.canvas *= light.colour.reshape(3, 1, 1, 1)


def _ellipse(
    u: Floats, v: Floats, centre: tuple[Floats | float, float], radii: tuple[float, float]
) -> Floats:
    """Distance to an ellipse, right near its outline."""
    across, down = (u - centre[0]) / radii[0], (v - centre[1]) / radii[1]
    distance: Floats = (np.sqrt(across**2 + down**2) - 1) * min(radii)
    return distance


def _background(light: Light, x: Floats, y: Floats, height: float) -> Floats:
    """(3, 1, H, W): a gradient downwards with a blob on it; x, y and the height in widths."""
    shape = (3, 1, 1, 1)
    down = y / height
    ground = light.top.reshape(shape) * (1 - down) + light.bottom.reshape(shape) * down
    at_x, at_y, radius = light.blob_at
    blob = np.clip(1.5 - np.hypot(x - at_x, y - at_y) / radius, 0, 1)
    mixed: Floats = ground + blob * (light.blob.reshape(shape) - ground)
    return mixed
