"""Drawn faces: ``<person>/<session>_<frame>.png`` and ``landmarks.csv`` with the centres of the eyes.

A person is drawn once from the seed and never changes; a session has a light, a background and a camera of
its own, and its frames are poses. Frames of one session resemble each other as those of a video do, so a
split goes by session.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from fineprune.config import Count, Seed
from fineprune.data.generators.face_drawing import Colour, Floats, Light, Person, Poses, draw
from fineprune.errors import missing_extra
from fineprune.progress import progress

LANDMARKS = "landmarks.csv"
COLUMNS = ("path", "left_x", "left_y", "right_x", "right_y")

_SKINS = ((250, 222, 204), (238, 196, 170), (214, 165, 128), (172, 122, 86), (118, 78, 54))
_HAIRS = ((24, 20, 20), (58, 38, 26), (96, 62, 36), (126, 70, 40), (200, 164, 108), (168, 164, 160))
_IRISES = ((70, 42, 24), (98, 70, 38), (72, 104, 150), (84, 120, 84), (110, 122, 130))
_STYLES = ("bald", "short", "short", "parted", "parted", "fringe", "long", "long", "curly")
_RANGES: Mapping[str, tuple[float, float]] = {
    "squareness": (2.0, 2.9),
    "jaw": (0.12, 0.42),
    "height": (1.2, 1.42),
    "ears": (0.18, 0.34),
    "cheeks": (0.0, 0.7),
    "hairline": (-1.0, -0.68),
    "parting": (-0.5, 0.5),
    "volume": (0.0, 1.0),
    "eye_spacing": (0.36, 0.5),
    "eye_level": (-0.24, -0.04),
    "eye_width": (0.17, 0.25),
    "eye_height": (0.07, 0.13),
    "eye_slant": (-0.2, 0.2),
    "brow_level": (0.2, 0.33),
    "brow_thickness": (0.025, 0.075),
    "brow_arch": (-0.02, 0.1),
    "brow_slant": (-0.15, 0.2),
    "nose_length": (0.42, 0.66),
    "nose_width": (0.13, 0.26),
    "mouth_level": (0.66, 0.84),
    "mouth_width": (0.28, 0.48),
    "lip_thickness": (0.045, 0.11),
    "beard_line": (0.0, 0.6),
}


@dataclass(frozen=True)
class FacesOptions:
    """How many faces, and of what size.

    Attributes:
        identities: people, of whom each is a class.
        sessions: of each person.
        frames: of each session.
        height: of a picture, in pixels.
        width: of a picture, in pixels.
        seed: of everything.
    """

    kind: Literal["faces"]
    identities: Count
    sessions: Count
    frames: Count
    height: Count
    width: Count
    seed: Seed


def generate(options: FacesOptions, folder: Path) -> None:
    """Draw the faces.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    rows: list[tuple[str, ...]] = []
    people = range(options.identities)
    for number in progress(people, total=len(people), name="generate", unit="person"):
        name = f"person{number:04d}"
        (folder / name).mkdir()
        person = make_person(np.random.default_rng((options.seed, number)))
        for session in range(options.sessions):
            rng = np.random.default_rng((options.seed, number, session + 1))
            pixels, eyes = _session(person, options, rng)
            for frame, (picture, centres) in enumerate(zip(pixels, eyes.reshape(-1, 4), strict=True)):
                path = f"{name}/{session:02d}_{frame:03d}.png"
                _write_image(folder / path, picture)
                rows.append((path, *(f"{value:.2f}" for value in centres)))
    with (folder / LANDMARKS).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def make_person(rng: np.random.Generator) -> Person:
    """A person with random colours, hair and features."""
    skin = _between(_SKINS, rng)
    lengths = {name: rng.uniform(*bounds) for name, bounds in _RANGES.items()}
    style = str(rng.choice(_STYLES))
    hair_on_face = style not in ("long", "fringe") and rng.random() < 0.45
    return Person(
        skin=skin,
        hair=_between(_HAIRS, rng),
        iris=_between(_IRISES, rng),
        lips=skin * np.float32(rng.uniform(0.7, 0.9)) * np.array([1.08, 0.75, 0.78], dtype=np.float32),
        style=style,
        beard=rng.uniform(0.3, 0.9) * (hair_on_face and rng.random() < 0.7),
        moustache=rng.uniform(0.5, 0.95) * (hair_on_face and rng.random() < 0.6),
        **lengths,
    )


def _session(
    person: Person, options: FacesOptions, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """The frames (F, height, width, 3) and the eyes in them (F, 2, 2)."""
    light, poses = _light(rng), _poses(options.frames, rng)
    pictures, eyes = draw(person, light, poses, options.height, options.width)
    pictures += rng.uniform(1.5, 6) * rng.standard_normal(pictures.shape, dtype=np.float32)
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8).transpose(1, 2, 3, 0), eyes


def _light(rng: np.random.Generator) -> Light:
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.75)
    direction = slope * np.cos(angle), slope * (0.6 * np.sin(angle) - 0.4), np.sqrt(1 - slope**2)
    return Light(
        direction=(float(direction[0]), float(direction[1]), float(direction[2])),
        contrast=rng.uniform(0.2, 0.75),
        colour=(rng.uniform(0.65, 1.15) * rng.uniform(0.9, 1.1, 3)).astype(np.float32),
        top=_muted(rng),
        bottom=_muted(rng),
        blob=_muted(rng),
        blob_at=(rng.uniform(0, 1), rng.uniform(0, 1.2), rng.uniform(0.1, 0.4)),
        shirt=_muted(rng),
    )


def _poses(frames: int, rng: np.random.Generator) -> Poses:
    """Poses around one of the session, as the frames of a video are."""

    def around(spread: float, within: float) -> Floats:
        return (rng.normal(0, spread) + rng.normal(0, within, (frames, 1, 1))).astype(np.float32)

    def uniform(low: float, high: float) -> Floats:
        return rng.uniform(low, high, (frames, 1, 1)).astype(np.float32)

    blink = rng.random((frames, 1, 1)) < 0.05
    return Poses(
        x=around(0.015, 0.015),
        y=around(0.02, 0.015),
        scale=1 + np.clip(around(0.03, 0.025), -0.1, 0.1),
        roll=np.clip(around(0.04, 0.06), -0.25, 0.25),
        yaw=np.clip(around(0.2, 0.15), -0.55, 0.55),
        pitch=np.clip(around(0.1, 0.07), -0.3, 0.3),
        smile=np.clip(0.3 + around(0.25, 0.25), -0.5, 1),
        opening=np.clip(uniform(-1.2, 1), 0, 1),
        lids=np.where(blink, np.float32(0), uniform(0.75, 1.15)),
        brows=uniform(-0.3, 1),
        gaze=uniform(-1, 1),
    )


def _muted(rng: np.random.Generator) -> Colour:
    """Any colour that is not too bright a one."""
    colour: Colour = (rng.uniform(20, 235) + rng.uniform(-45, 45, 3)).astype(np.float32)
    return colour


def _between(palette: tuple[tuple[int, int, int], ...], rng: np.random.Generator) -> Colour:
    """A colour from one to the next of a palette, a little off."""
    place, colours = rng.uniform(0, len(palette) - 1), np.array(palette, dtype=np.float32)
    lower = int(place)
    mixed = colours[lower] + (place - lower) * (colours[lower + 1] - colours[lower])
    colour: Colour = np.clip(mixed * rng.uniform(0.94, 1.06, 3), 0, 255).astype(np.float32)
    return colour


def _write_image(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("the faces generator needs", "Pillow", "data") from error
    Image.fromarray(pixels).save(path, compress_level=1)
