"""Images of any size become arrays of one size: decoding, cropping, fitting, many at a time."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from fineprune.data.inputs import InputSpec
from fineprune.errors import DataError, missing_extra
from fineprune.progress import in_threads

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# Pillow goes by a file's content, and has decoders that start other programs.
FORMATS = ("BMP", "JPEG", "PNG", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pbm", ".pgm", ".pnm", ".ppm", ".bmp")
MID_GREY = 128
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DAMAGED_EXIF = (AttributeError, SyntaxError, TypeError, ValueError, struct.error)  # what Pillow raises of it
Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the source image as it is shown; ``right`` and ``bottom`` are outside it."""

    left: int
    top: int
    right: int
    bottom: int


def rgb(height: int, width: int) -> InputSpec:
    """What an RGB image of that size is as an input."""
    return InputSpec("image", (3, height, width), "uint8", low=0, high=255, sample_rate=None)


def load(path: Path, channels: int, *, turn: bool = True) -> Image:
    """One decoded image, turned as its EXIF says if ``turn``: grey (one channel), RGB (three) or RGBA (four).

    Of a JPEG that is damaged inside and not cut short, libjpeg makes what it can, and says nothing.

    Raises:
        DataError: the file is missing, damaged, cut short or of none of :data:`FORMATS`, or has more than 8
            bits per channel, or transparent pixels where no RGBA is asked for: nobody sees their colours.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            deep = _too_deep(image)
            image.load()
            if turn:
                _turn(image)
            seen = image.convert("RGBA") if image.has_transparency_data else image
            transparent = channels < 4 and _is_transparent(seen)
            pixels = seen.convert(_MODES[channels])
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file.
        raise DataError(f"{path}: expected a whole image, found {error}") from error
    if deep is not None:
        raise DataError(f"{path}: expected 8 bits per channel, found {deep}")
    if transparent:
        raise DataError(f"{path}: expected an opaque image, found transparent pixels")
    return pixels


def has_exif_orientation(image: Image) -> bool:
    """Whether the EXIF of an image says that it is stored turned or mirrored, and was not turned back."""
    from PIL import ExifTags

    with contextlib.suppress(*_DAMAGED_EXIF):
        return image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
    return False


def _too_deep(image: ImageFile) -> str | None:
    """What an image that is not decoded yet has in place of the 8 bits per channel that Pillow would keep."""
    if image.mode[0] in "IF":
        return f"mode {image.mode}"
    details = repr([tile[3] for tile in image.tile])
    deep = re.search(r"\w+;16B", details)  # how the samples of a PNG lie in the file
    largest = re.search(r"\d+", details) if image.format == "PPM" else None
    if largest and int(largest[0]) > 255:
        return f"samples up to {largest[0]}"
    return f"mode {deep[0]}" if deep else None


def _is_transparent(image: Image) -> bool:
    """Whether a pixel of a decoded image is not opaque."""
    return image.mode == "RGBA" and bool((np.asarray(image.getchannel("A")) < 255).any())


def _turn(image: Image) -> None:
    """Turn an image in place as its EXIF says; one whose EXIF is damaged stays as it lies, as in viewers."""
    from PIL import ImageOps

    with contextlib.suppress(*_DAMAGED_EXIF):
        ImageOps.exif_transpose(image, in_place=True)


def cropped(image: Image, box: Box, height: int, width: int, path: Path) -> Pixels:
    """The box of an image, resized (bilinear, antialiased): uint8 (channels, height, width).

    Raises:
        DataError: the box is empty or reaches out of the image that came from ``path``.
    """
    if not (0 <= box.left < box.right <= image.width and 0 <= box.top < box.bottom <= image.height):
        raise DataError(f"{path}: expected a crop within {image.width}×{image.height} pixels, found {box}")
    from PIL import Image

    corners = (box.left, box.top, box.right, box.bottom)
    return _array(image.resize((width, height), Image.Resampling.BILINEAR, box=corners))


def fitted(image: Image, height: int, width: int) -> tuple[Pixels, tuple[float, float]]:
    """An RGB image scaled to fit, its aspect kept, mid-grey to its right or below it.

    Returns:
        uint8 (3, height, width), and how much x and y were scaled.
    """
    from PIL import Image

    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new("RGB", (width, height), (MID_GREY,) * 3)
    canvas.paste(image.resize(size, Image.Resampling.BILINEAR))
    return _array(canvas), (size[0] / image.width, size[1] / image.height)


def for_each(decode: Callable[[int], T], count: int) -> list[T]:
    """``decode(0)`` … ``decode(count - 1)``, in parallel: Pillow's decoders let go of the interpreter lock.

    Raises:
        DataError: what ``decode`` raises; :func:`load` does so of an image of more pixels than Pillow holds
            for sound.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageFile
    except ImportError as error:
        raise missing_extra("reading images needs", "Pillow", "data") from error
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    # Half a megabyte can hold 177 million pixels, 1.4 GB in each thread, of which Pillow only warns.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return in_threads(decode, range(count), threads=min(8, os.cpu_count() or 1), name="ingest", unit="image")


def _array(image: Image) -> Pixels:
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
