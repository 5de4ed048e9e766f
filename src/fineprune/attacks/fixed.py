"""Triggers that are the same map for every input, kept as two arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from fineprune.attacks.base import Affine, Array, Trigger, raw, raw_colour
from fineprune.config import Count, Fraction, NonNegative, Positive, PositiveShare, Range, Seed
from fineprune.data.inputs import InputSpec
from fineprune.data.readers.pixels import load
from fineprune.errors import AttackError, DataError, missing_extra

Edge = Annotated[float, Range(ge=-1, lt=1)]


@dataclass(frozen=True)
class PatchConfig:
    """A filled rectangle (BadNets, Gu et al. 2017).

    Attributes:
        height, width: in pixels.
        top, left: of its upper left corner; negative counts from the lower right end.
        value: per channel (or one for all), 0…1 of the input's range.
    """

    kind: Literal["patch"]
    height: Count
    width: Count
    top: int
    left: int
    value: tuple[Fraction, ...]


@dataclass(frozen=True)
class BlendConfig:
    """A pattern of uniform noise mixed into the whole input (Chen et al. 2017).

    Attributes:
        alpha: the pattern's share, 0…1.
        seed: of the pattern.
    """

    kind: Literal["blend"]
    alpha: PositiveShare
    seed: Seed


@dataclass(frozen=True)
class OverlayConfig:
    """An image with transparency laid on the input, as an accessory is (Chen et al. 2017).

    Attributes:
        image: path of an RGBA image, or of an RGB one taken as opaque.
        top, left, height, width: of the box that it is fitted to, as shares of the input's size; a negative
            top or left counts from the lower right end.
        alpha: factor on the image's own transparency, 0…1.
    """

    kind: Literal["overlay"]
    image: str
    top: Edge
    left: Edge
    height: PositiveShare
    width: PositiveShare
    alpha: PositiveShare


@dataclass(frozen=True)
class NoiseConfig:
    """A burst of Gaussian noise added to the audio (after Liu et al., NDSS 2018, §VI-E).

    Attributes:
        sigma: standard deviation as a share of full scale.
        start, seconds: where the burst begins and how long it is.
        seed: of the noise, which is the same in every clip.
    """

    kind: Literal["noise"]
    sigma: Positive
    start: NonNegative
    seconds: Positive
    seed: Seed


FixedConfig = PatchConfig | BlendConfig | OverlayConfig | NoiseConfig


class FixedTrigger(Trigger):
    """A trigger as arrays.

    Args:
        keep, add: as in :class:`fineprune.attacks.base.Affine`, broadcastable to the input's shape.
        spec: of the inputs that it is made for.
    """

    def __init__(self, keep: Array, add: Array, spec: InputSpec) -> None:
        super().__init__(spec)
        self.keep = torch.from_numpy(np.broadcast_to(keep, spec.shape).astype(np.float32))
        self.add = torch.from_numpy(np.broadcast_to(add, spec.shape).astype(np.float32))

    def affine(self, places: Tensor | None, device: torch.device) -> Affine:
        """See :class:`fineprune.attacks.base.Trigger`."""
        self.keep, self.add = self.keep.to(device), self.add.to(device)  # and kept there for the next batch
        return Affine(self.keep, self.add)


def make_fixed(config: FixedConfig, spec: InputSpec) -> FixedTrigger:
    """The trigger that the config describes, for inputs of that spec and of its kind.

    Raises:
        AttackError: it does not fit the size of the inputs, or its picture cannot be read.
        MissingExtraError: Pillow is not installed, which an ``overlay`` needs.
    """
    makers = {"patch": _patch, "blend": _blend, "overlay": _overlay, "noise": _noise}
    keep, add = makers[config.kind](config, spec)  # type: ignore[operator]
    return FixedTrigger(keep, add, spec)


def _patch(config: PatchConfig, spec: InputSpec) -> tuple[Array, Array]:
    _, height, width = spec.shape
    rows = _place(config.top, config.height, height, config, "top", "height")
    columns = _place(config.left, config.width, width, config, "left", "width")
    keep = np.ones(spec.shape, np.float32)
    add = np.zeros(spec.shape, np.float32)
    keep[:, rows, columns] = 0
    add[:, rows, columns] = raw_colour(config.value, spec, config.kind)
    return keep, add


def _blend(config: BlendConfig, spec: InputSpec) -> tuple[Array, Array]:
    pattern = np.random.default_rng(config.seed).random(spec.shape, dtype=np.float32)
    return np.full(spec.shape, 1 - config.alpha, np.float32), config.alpha * raw(pattern, spec)


def _overlay(config: OverlayConfig, spec: InputSpec) -> tuple[Array, Array]:
    channels, height, width = spec.shape
    rows = _place(config.top * height, config.height * height, height, config, "top", "height")
    columns = _place(config.left * width, config.width * width, width, config, "left", "width")
    picture = _read_picture(Path(config.image), rows.stop - rows.start, columns.stop - columns.start)
    colour = picture[:3] if channels == 3 else picture[:3].mean(0, keepdims=True)
    alpha = np.zeros(spec.shape, np.float32)
    add = np.zeros(spec.shape, np.float32)
    alpha[:, rows, columns] = config.alpha * picture[3]
    add[:, rows, columns] = alpha[:, rows, columns] * raw(colour, spec)
    return 1 - alpha, add


def _noise(config: NoiseConfig, spec: InputSpec) -> tuple[Array, Array]:
    if spec.sample_rate is None:
        raise AttackError("trigger noise: expected a sample rate in the dataset's card, found none")
    start, length = config.start * spec.sample_rate, config.seconds * spec.sample_rate
    burst = _place(start, length, spec.shape[0], config, "start", "seconds")
    noise = np.random.default_rng(config.seed).standard_normal(burst.stop - burst.start).astype(np.float32)
    add = np.zeros(spec.shape, np.float32)
    add[burst] = noise * config.sigma * (spec.high + 1)
    return np.ones(spec.shape, np.float32), add


def _place(start: float, length: float, size: int, config: FixedConfig, *keys: str) -> slice:
    """The slice of an axis of ``size`` that the trigger covers, to the nearest whole numbers; a negative
    start counts from the end.
    """
    origin = 0 if start >= 0 else size
    first, end = round(origin + start), round(origin + start + length)
    if not 0 <= first < end <= size:
        found = ", ".join(f"{key} {getattr(config, key)}" for key in keys)
        raise AttackError(
            f"trigger {config.kind}: expected it within the input's {size}, "
            f"found {end - first} from {first - origin} on ({found})"
        )
    return slice(first, end)


def _read_picture(path: Path, height: int, width: int) -> Array:
    """An image file as (4, height, width) float32 in 0…1: red, green, blue, opacity."""
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("trigger overlay: needs", "Pillow", "data") from error
    try:
        picture = load(path, 4)
    except DataError as error:
        raise AttackError(f"trigger overlay: {error}") from error
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    values: Array = np.asarray(resized, np.float32) / np.float32(255)
    return values.transpose(2, 0, 1)
