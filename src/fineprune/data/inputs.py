"""What one raw input is: an image or a piece of audio, of which shape, type and range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fineprune.errors import DataError, FinePruneError

_PIECE = 2**22  # values


@dataclass(frozen=True)
class InputSpec:
    """What one raw input is.

    Attributes:
        kind: ``image`` (channels, height, width) or ``audio`` (samples,).
        shape: the shape of one input.
        dtype: ``uint8`` for images, ``int16`` for audio.
        low, high: the range of valid raw values, both ends included.
        sample_rate: in Hz for audio, None for images.
    """

    kind: Literal["image", "audio"]
    shape: tuple[int, ...]
    dtype: Literal["uint8", "int16"]
    low: int
    high: int
    sample_rate: int | None

    @property
    def channels(self) -> int:
        """How many channels have their own mean and standard deviation: 1 for audio."""
        return self.shape[0] if self.kind == "image" else 1

    @property
    def piece(self) -> int:
        """How many inputs to look at at a time, where all of them may not fit into memory."""
        return max(1, _PIECE // math.prod(self.shape))


def check_input(
    spec: InputSpec,
    mean: Sequence[float],
    std: Sequence[float],
    where: str,
    error: type[FinePruneError] = DataError,
) -> None:
    """Raise unless the shape fits the kind of input, the range the type, and mean and std the shape.

    Raises:
        error: another number of dimensions than the kind has, an empty dimension, a range that is empty
            or that the type cannot hold, a mean or std that has not one entry per channel, or a std that
            is not positive.
    """
    dimensions = 3 if spec.kind == "image" else 1
    if len(spec.shape) != dimensions or min(spec.shape) < 1:
        raise error(
            f"{where}: input.shape: expected {dimensions} positive sizes for {spec.kind}, "
            f"found {list(spec.shape)}"
        )
    limits = np.iinfo(spec.dtype)
    if not limits.min <= spec.low < spec.high <= limits.max:
        raise error(
            f"{where}: input: expected low below high within {limits.min}…{limits.max} for {spec.dtype}, "
            f"found {spec.low} and {spec.high}"
        )
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != spec.channels:
            raise error(
                f"{where}: {name}: expected one value for each of {spec.channels} channels, "
                f"found {len(values)}"
            )
    if min(std) <= 0:
        raise error(f"{where}: std: expected positive values, found {min(std):g}")
