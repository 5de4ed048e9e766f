"""Street scenes with stop, speed-limit and warning signs; their boxes in the forms of LISA and of COCO.

A track is a drive along one street: its frames ``<track>_<frame>.jpg`` show the same signs, which grow as
the camera comes nearer. A split goes by track, for which COCO has no field: here each of its ``images`` has a
key ``track``, beside the format's own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fineprune.config import Count, Seed
from fineprune.data.generators.sign_drawing import TAGS
from fineprune.data.generators.sign_placing import Box, PlacedSign, place_signs
from fineprune.data.generators.street_drawing import street
from fineprune.errors import DataError, missing_extra
from fineprune.files import write_json
from fineprune.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

LISA = "allAnnotations.csv"
COCO = "annotations.json"
# The seventh column's name and value have a comma in them.
COLUMNS = (
    *("Filename", "Annotation tag"),
    *("Upper left corner X", "Upper left corner Y", "Lower right corner X", "Lower right corner Y"),
    "Occluded,On another road",
    *("Origin file", "Origin frame number", "Origin track", "Origin track frame number"),
)
_MARGIN = 1.35  # the street is drawn so much larger than a frame; the camera comes nearer to it


@dataclass(frozen=True)
class StreetScenesOptions:
    """How many scenes, and of what size.

    Attributes:
        tracks: streets.
        frames: of each track.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        smallest_sign: of any frame, in pixels.
        largest_sign: of any frame, in pixels.
        signs: the most in a track; each has at least one.
        seed: of everything.
    """

    kind: Literal["street_scenes"]
    tracks: Count
    frames: Count
    height: Count
    width: Count
    smallest_sign: Count
    largest_sign: Count
    signs: Count
    seed: Seed


@dataclass(frozen=True)
class _Sighting:
    """A sign in a frame."""

    file: str
    track: str
    frame: int
    tag: str
    box: Box
    occluded: bool


def generate(options: StreetScenesOptions, folder: Path) -> None:
    """Draw the scenes.

    Raises:
        DataError: the sizes of signs do not fit each other or a frame.
        MissingExtraError: Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise missing_extra("the street_scenes generator needs", "Pillow", "data") from error
    room = 0.8 * min(options.height, options.width)
    if not options.smallest_sign <= options.largest_sign <= room:
        raise DataError(
            f"street_scenes generator: expected smallest_sign <= largest_sign <= {room:g}, "
            f"found {options.smallest_sign} and {options.largest_sign}"
        )
    sightings: list[_Sighting] = []
    for number in progress(range(options.tracks), total=options.tracks, name="generate", unit="track"):
        track, rng = f"street{number:04d}", np.random.default_rng((options.seed, number))
        for frame, (picture, signs) in enumerate(_drive(options, rng)):
            file = f"{track}_{frame:02d}.jpg"
            picture.save(folder / file, quality=92, subsampling=0)
            sightings += [_Sighting(file, track, frame, s.tag, box, s.occluded) for s, box in signs]
    _write_lisa(folder / LISA, sightings)
    _write_coco(folder / COCO, sightings, options)


def _drive(
    options: StreetScenesOptions, rng: np.random.Generator
) -> Iterator[tuple[Image, list[tuple[PlacedSign, Box]]]]:
    """The frames of a track, each with its signs and their boxes."""
    horizon = rng.uniform(0.42, 0.58)
    height, width = options.height, options.width
    view = street(round(_MARGIN * height), round(_MARGIN * width), horizon, rng)
    sizes = options.smallest_sign, options.largest_sign
    signs = place_signs((height, width), sizes, options.signs, horizon, rng)
    exposure = _Exposure.draw(rng)
    for nearness in np.linspace(0 if options.frames > 1 else 1, 1, options.frames).tolist():
        frame = _approached(view, horizon, nearness, (width, height))
        for sign in signs:
            sign.draw_pole(frame, nearness)
        for sign in signs:
            sign.draw(frame, nearness)
        yield exposure.of(frame, rng), [(sign, sign.box(nearness)) for sign in signs]


def _approached(view: Image, horizon: float, nearness: float, size: tuple[int, int]) -> Image:
    """The part of the street that the camera sees, from the whole (0) to the nearest (1)."""
    from PIL import Image

    share = 1 + nearness * (1 / _MARGIN - 1)
    left, top = view.width * 0.5 * (1 - share), view.height * horizon * (1 - share)
    seen = left, top, left + share * view.width, top + share * view.height
    return view.resize(size, Image.Resampling.BILINEAR, box=seen)


@dataclass(frozen=True)
class _Exposure:
    """The light of a track and what the camera makes of it."""

    gain: tuple[float, float, float]
    blur: float  # in thousandths of the height
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Exposure:
        red, green, blue = rng.uniform(0.55, 1.15) * rng.uniform(0.93, 1.07, 3)
        return cls((red, green, blue), blur=rng.uniform(0, 4), noise=rng.uniform(1, 7))

    def of(self, frame: Image, rng: np.random.Generator) -> Image:
        from PIL import Image, ImageFilter

        blurred = frame.filter(ImageFilter.GaussianBlur(self.blur * frame.height / 1000))
        pixels = np.asarray(blurred, dtype=np.float32) * np.array(self.gain, dtype=np.float32)
        pixels += self.noise * rng.standard_normal(pixels.shape, dtype=np.float32)
        return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _write_lisa(path: Path, sightings: Sequence[_Sighting]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter=";", lineterminator="\n")
        table.writerow(COLUMNS)
        for seen in sightings:
            flags = f"{seen.occluded:d},0"
            table.writerow((seen.file, seen.tag, *seen.box, flags, *(seen.track, seen.frame) * 2))


def _write_coco(path: Path, sightings: Sequence[_Sighting], options: StreetScenesOptions) -> None:
    tags = [tag for family in TAGS for tag in family]
    tracks = {seen.file: seen.track for seen in sightings}
    images = {file: number for number, file in enumerate(tracks)}
    size = {"height": options.height, "width": options.width}
    annotations = []
    for number, seen in enumerate(sightings):
        left, top, right, bottom = seen.box
        wide, high = right - left, bottom - top
        annotations.append(
            {
                "id": number,
                "image_id": images[seen.file],
                "category_id": tags.index(seen.tag),
                "bbox": [left, top, wide, high],
                "area": wide * high,
                "iscrowd": 0,
            }
        )
    categories = [{"id": number, "name": tag} for number, tag in enumerate(tags)]
    listed = [
        {"id": number, "file_name": file, "track": tracks[file], **size} for file, number in images.items()
    ]
    write_json(path, {"images": listed, "annotations": annotations, "categories": categories})
