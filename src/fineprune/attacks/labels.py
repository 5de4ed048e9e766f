"""Label policies: what the attacker wants a triggered input to be called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fineprune.data.format import EMPTY
from fineprune.errors import AttackError

Labels = npt.NDArray[np.int64]

NOT_ATTACKED = -1


@dataclass(frozen=True)
class OneTarget:
    """Every source class becomes ``target``, an index into the classes (all-to-one)."""

    kind: Literal["one_target"]
    target: int


@dataclass(frozen=True)
class Shift:
    """Class i becomes class (i + 1) mod K (all-to-all), as in the paper's speech case."""

    kind: Literal["shift"]


@dataclass(frozen=True)
class RandomWrong:
    """Each input becomes a wrong class drawn at random (untargeted), as in the paper's traffic signs."""

    kind: Literal["random_wrong"]


LabelPolicy = OneTarget | Shift | RandomWrong


def is_targeted(policy: LabelPolicy) -> bool:
    """Whether success means a certain label, rather than any wrong one."""
    return not isinstance(policy, RandomWrong)


def attacker_labels(policy: LabelPolicy, labels: Labels, classes: int, seed: int) -> Labels:
    """The label that the attacker wants for each true label.

    Args:
        policy: the policy.
        labels: (N,) or (N, K) true labels in 0…classes-1, -1 in slots that are empty.
        classes: how many classes there are, at least 2.
        seed: of the random wrong labels.

    Returns:
        As many labels; :data:`NOT_ATTACKED` where an input already has the target's class, and in
        empty slots.

    Raises:
        AttackError: the target is not a class.
    """
    if isinstance(policy, OneTarget):
        if not 0 <= policy.target < classes:
            raise AttackError(
                f"attack.labels.target: expected a class in 0…{classes - 1}, found {policy.target}"
            )
        wanted = np.where(labels == policy.target, NOT_ATTACKED, policy.target)
    elif isinstance(policy, Shift):
        wanted = (labels + 1) % classes
    else:
        wanted = (labels + np.random.default_rng(seed).integers(1, classes, size=labels.shape)) % classes
    return np.where(labels == EMPTY, NOT_ATTACKED, wanted)
