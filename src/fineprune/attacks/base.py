"""What every trigger is: an affine map of the raw input, ``round(input * keep + add)``, clipped to range.

A pixel patch keeps nothing where it lies and adds its colour; a blend keeps ``1 - alpha`` and adds
``alpha`` times its pattern; a noise burst keeps everything and adds its samples. Some triggers are the
same map for every input, others follow a place in it: the eyes, or the boxes of signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fineprune.data.inputs import InputSpec
from fineprune.errors import AttackError

Array = npt.NDArray[np.float32]


class Affine(NamedTuple):
    """A map of raw inputs (B, *shape), both float32 and broadcastable to them.

    Attributes:
        keep: the share of the input that stays, 0…1.
        add: what is added, in raw units.
    """

    keep: Tensor
    add: Tensor


class Trigger:
    """A trigger for inputs of one kind and shape.

    Args:
        spec: of the inputs that it is made for.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def affine(self, places: Tensor | None, device: torch.device) -> Affine:
        """The map for inputs with these places."""
        raise NotImplementedError

    def __call__(self, inputs: Tensor, places: Tensor | None = None) -> Tensor:
        """The inputs (B, *shape) with the trigger on each, in the same dtype and range.

        Values are rounded and clipped as a file would hold them, so that what is measured is what
        an attacker could deliver.

        Args:
            inputs: raw inputs (B, *shape).
            places: where in each input the trigger goes, as :class:`fineprune.data.batches.Batch` has
                them; triggers that lie at the same place in every input do not look at them.

        Raises:
            AttackError: the trigger needs places of a kind that the inputs do not have.
        """
        keep, add = self.affine(places, inputs.device)
        stamped = (inputs.float() * keep + add).round().clamp(self.spec.low, self.spec.high)
        return stamped.to(inputs.dtype)


def raw(shares: Array, spec: InputSpec) -> Array:
    """Shares 0…1 of the input's range as raw values."""
    return (spec.low + shares * (spec.high - spec.low)).astype(np.float32)


def raw_colour(shares: Sequence[float], spec: InputSpec, kind: str) -> Array:
    """The raw values (channels, 1, 1) of a colour, or of one grey for all channels, in shares 0…1.

    Raises:
        AttackError: it has another number of channels than the images.
    """
    channels = spec.shape[0]
    if len(shares) not in (1, channels):
        raise AttackError(f"trigger {kind}: expected 1 or {channels} values, found {len(shares)}")
    colour = raw(np.asarray(shares, np.float32), spec)
    return np.broadcast_to(colour[:, None, None], (channels, 1, 1)).copy()


def expect_places(places: Tensor | None, shape: Sequence[int | None], kind: str, name: str) -> Tensor:
    """The places, if they have the shape (B, *shape), where None stands for any length.

    Raises:
        AttackError: there are none, or they are of another kind.
    """
    if places is None:
        raise AttackError(f"trigger {kind}: expected {name} in the dataset, found none")
    found = places.shape[1:]
    if len(found) != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, found, strict=True)
    ):
        raise AttackError(f"trigger {kind}: expected {name} in the dataset, found places of {tuple(found)}")
    return places
