"""Samples that the attacker holds out of its training data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fineprune.data.batches import Batch, Samples
from fineprune.data.splits import divide, objects
from fineprune.errors import AttackError

Array = npt.NDArray[Any]


class Subset:
    """Some of the samples, by their positions (M,); the same interface as all of them."""

    def __init__(self, samples: Samples, positions: Tensor) -> None:
        self.samples, self.positions = samples, positions.to(samples.labels.device)
        self.labels = samples.labels[self.positions]

    def __len__(self) -> int:
        return len(self.positions)

    def draw(self, positions: Tensor) -> Batch:
        """See :class:`fineprune.data.batches.Samples`."""
        return self.samples.draw(self.positions[positions.to(self.positions.device)])


def hold_out(samples: Samples, groups: Array, share: float, *, seed: int) -> tuple[Subset, Subset]:
    """Divide the samples into those to train on and those held out, with classes in proportion.

    Whole groups go to one side, unless a class has only one: then single samples do.

    Args:
        samples: the N samples.
        groups: (N,) their groups.
        share: of the samples that are held out, in (0, 1).
        seed: of the choice.

    Raises:
        AttackError: a side has no sample.
    """
    labels = samples.labels.cpu().numpy()
    units = groups if _groups_per_class(labels, groups) >= 2 else np.arange(len(labels))
    shares = np.array([1 - share, share])
    sides = torch.from_numpy(divide(labels, units, shares, np.random.default_rng(seed)))
    parts = [Subset(samples, (sides == side).nonzero().flatten()) for side in (0, 1)]
    if not all(len(part) for part in parts):
        raise AttackError(
            f"attack.pruning_aware.validation: {share:g} of {len(labels)} training samples: "
            f"expected some on either side, found {len(parts[0])} and {len(parts[1])}"
        )
    return parts[0], parts[1]


def _groups_per_class(labels: Array, groups: Array) -> int:
    """The number of groups of the class that has fewest."""
    pairs = np.unique(np.stack(objects(labels, groups)), axis=1)
    return int(np.unique(pairs[0], return_counts=True)[1].min())
