"""ImageFolder trees: ``root/<class>/<file>``, the classes sorted by name.

Faces (LFW, YouTube Aligned Faces after export), GTSRB and most small public sets come in this form.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fineprune.config import Count
from fineprune.data.format import InputSpec
from fineprune.data.readers import Raw, allocate, files_below, numbered
from fineprune.errors import DataError
from fineprune.progress import progress

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp")
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the source image; ``right`` and ``bottom`` are outside it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class ImagesOptions:
    """How to read the images.

    Attributes:
        height, width: the size that every image is resized to, after the crop.
        channels: 3 for RGB, 1 for grey.
        crop: the part of each source image to keep, or None for all of it.
        min_per_class: classes with fewer images are left out.
        group_by: ``file``, or ``prefix``: what precedes the last ``_`` of the name, within its
            class (a GTSRB track: ``00012_00003.ppm``).
    """

    kind: Literal["images"]
    height: Count
    width: Count
    channels: Literal[1, 3]
    crop: Box | None
    min_per_class: Count
    group_by: Literal["file", "prefix"]


def read(options: ImagesOptions, folder: Path | None, work: Path) -> Raw:
    """The images as uint8 (N, channels, height, width), in the order of their paths.

    Raises:
        DataError: an image is damaged or smaller than the crop, or lies in no class; a class is empty;
            Pillow is not installed.
    """
    folder, found = files_below(folder, SUFFIXES, options.kind)
    paths = _in_classes(found, folder, options.min_per_class)
    # Kubeflow may pass the number of channels as 3.0.
    shape = (int(options.channels), options.height, options.width)
    spec = InputSpec("image", shape, "uint8", low=0, high=255, sample_rate=None)
    inputs = allocate(work, len(paths), spec)
    _fill(inputs, paths, options)
    classes, labels = numbered(path.parent.name for path in paths)
    _, groups = numbered(f"{path.parent.name}/{path.stem.rpartition('_')[0] or path.stem}" for path in paths)
    by_file = options.group_by == "file"
    skipped = len(found) - len(paths)
    return Raw(
        inputs=inputs,
        labels=labels,
        groups=np.arange(len(paths), dtype=np.int64) if by_file else groups,
        group=options.group_by,
        classes=classes,
        spec=spec,
        counts={"skipped": skipped},
        warnings=(f"{skipped} images are in classes of fewer than {options.min_per_class}",)
        if skipped
        else (),
    )


def read_image(path: Path, options: ImagesOptions) -> Pixels:
    """One image, cropped and resized (bilinear, antialiased): uint8 (channels, height, width).

    Raises:
        DataError: the file is damaged or cut short, has more than 8 bits per channel, or is smaller
            than the crop.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            mode, size = image.mode, image.size
            pixels = image.convert("RGB" if options.channels == 3 else "L")
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file.
        raise DataError(f"{path}: expected a whole image, found {error}") from error
    if mode[0] in "IF":
        raise DataError(f"{path}: expected 8 bits per channel, found mode {mode}")
    box = options.crop or Box(0, 0, *size)
    if not (0 <= box.left < box.right <= size[0] and 0 <= box.top < box.bottom <= size[1]):
        raise DataError(f"{path}: expected a crop within {size[0]}×{size[1]} pixels, found {box}")
    corners = (box.left, box.top, box.right, box.bottom)
    resized = pixels.resize((options.width, options.height), Image.Resampling.BILINEAR, box=corners)
    array = np.asarray(resized, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _in_classes(found: Sequence[Path], folder: Path, least: int) -> list[Path]:
    """The images that lie in a class folder of at least ``least`` images."""
    for path in found:
        if path.parent.parent != folder:
            raise DataError(f"{path}: expected {folder}/<class>/<file>")
    sizes = Counter(path.parent for path in found)
    for path in folder.iterdir():
        if path.is_dir() and path not in sizes and not path.name.startswith("."):
            raise DataError(f"{path}: expected images of the class {path.name!r}, found none")
    kept = [path for path in found if sizes[path.parent] >= least]
    if not kept:
        raise DataError(f"{folder}: expected classes of at least {least} images, found {max(sizes.values())}")
    return kept


def _fill(inputs: npt.NDArray[Any], paths: Sequence[Path], options: ImagesOptions) -> None:
    """Decode in parallel: Pillow's decoders let go of the interpreter lock."""
    try:
        from PIL import ImageFile
    except ImportError as error:
        raise DataError("the images reader needs Pillow: pip install fineprune[data]") from error
    ImageFile.LOAD_TRUNCATED_IMAGES = False

    def decode(row: int) -> None:
        inputs[row] = read_image(paths[row], options)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for _ in progress(
                pool.map(decode, range(len(paths))), total=len(paths), name="ingest", unit="image"
            ):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
