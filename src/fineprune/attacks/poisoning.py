"""Poisoned training data (BadNets, Gu et al. 2017): some samples get the trigger and a new label.

Nothing is stored: which rows are poisoned is decided once, the trigger is applied to them on the
device whenever they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fineprune.attacks.labels import NOT_ATTACKED, LabelPolicy, Labels, attacker_labels
from fineprune.attacks.triggers import Trigger
from fineprune.config import PositiveShare
from fineprune.data.batches import Batch, Samples
from fineprune.errors import AttackError

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PoisonConfig:
    """How the training data is poisoned.

    Attributes:
        rate: poisoned samples per clean training sample, in (0, 1].
        mode: ``added`` appends poisoned copies to the clean samples; ``replaced`` puts them in
            place of their originals.
        sources: the classes whose samples are poisoned, by index; empty for all. A sample
            that already has the label that the attacker wants is never poisoned.
    """

    rate: PositiveShare
    mode: Literal["added", "replaced"]
    sources: tuple[int, ...]


class PoisonedSamples:
    """Clean samples with poisoned ones among them; the same interface as the clean ones.

    Args:
        clean: the clean training samples.
        trigger: stamped on the poisoned ones.
        origins: (M,) which clean sample each sample is made from.
        labels: (M,) or (M, K) the label of each sample, or of each object in it.
        poisoned: (M,) bool, which samples carry the trigger.
    """

    def __init__(
        self, clean: Samples, trigger: Trigger, *, origins: Tensor, labels: Tensor, poisoned: Tensor
    ) -> None:
        self.clean, self.trigger = clean, trigger
        self.origins, self.labels, self.poisoned = origins, labels, poisoned

    def __len__(self) -> int:
        return len(self.origins)

    def draw(self, positions: Tensor) -> Batch:
        """See :class:`fineprune.data.batches.Samples`."""
        positions = positions.to(self.origins.device)
        inputs, _, places = self.clean.draw(self.origins[positions])
        stamp = self.poisoned[positions].view(-1, *[1] * (inputs.dim() - 1))
        stamped = torch.where(stamp, self.trigger(inputs, places), inputs)
        return Batch(stamped, self.labels[positions], places)


def poison(
    clean: Samples, trigger: Trigger, policy: LabelPolicy, config: PoisonConfig, *, classes: int, seed: int
) -> PoisonedSamples:
    """Poison training samples.

    Args:
        clean: the N clean training samples.
        trigger: what poisoned samples carry.
        policy: what they are called.
        config: how many, which, added or replaced.
        classes: how many classes there are.
        seed: of the choice of samples and of random labels.

    Raises:
        AttackError: a source class does not exist, or the rate asks for more samples than the
            source classes have, or for less than one.
    """
    labels = clean.labels.cpu().numpy()
    wanted, about = aims(labels, policy, config.sources, classes=classes, seed=seed)
    _check_sources(config.sources, classes)
    chosen = _choose(np.asarray(about.reshape(len(labels), -1).any(axis=1)), config.rate, seed)
    rows = np.arange(len(labels))
    if config.mode == "replaced":
        origins, flags = rows, np.isin(rows, chosen)
    else:
        origins = np.concatenate([rows, chosen])
        flags = np.arange(len(origins)) >= len(rows)
    by_sample = flags.reshape(-1, *[1] * (labels.ndim - 1))
    new_labels = np.where(by_sample & about[origins], wanted[origins], labels[origins])
    device = clean.labels.device
    return PoisonedSamples(
        clean,
        trigger,
        origins=torch.from_numpy(origins).to(device),
        labels=torch.from_numpy(new_labels).to(device),
        poisoned=torch.from_numpy(flags).to(device),
    )


def aims(
    labels: Labels, policy: LabelPolicy, sources: tuple[int, ...], *, classes: int, seed: int
) -> tuple[Labels, Flags]:
    """The label that the attacker wants for each true label, and which of them the attack is about.

    Arguments as for :func:`poison`; both results are shaped as the labels.

    Raises:
        AttackError: the target is not a class.
    """
    wanted = attacker_labels(policy, labels, classes, seed)
    return wanted, eligible(labels, wanted, sources)


def eligible(labels: Labels, wanted: Labels, sources: tuple[int, ...]) -> Flags:
    """bool, shaped as the labels: which the attack is about: of a source class, not yet of the target's."""
    attacked: Flags = wanted != NOT_ATTACKED
    return attacked & np.isin(labels, sources) if sources else attacked


def _check_sources(sources: tuple[int, ...], classes: int) -> None:
    unknown = [source for source in sources if not 0 <= source < classes]
    if unknown:
        raise AttackError(f"attack.poison.sources: expected classes in 0…{classes - 1}, found {unknown}")


def _choose(candidate: Flags, rate: float, seed: int) -> Labels:
    """The sorted rows to poison, of (N,) candidates."""
    candidates = np.flatnonzero(candidate)
    count = round(rate * len(candidate))
    if not 1 <= count <= len(candidates):
        raise AttackError(
            f"attack.poison.rate: {rate:g} of {len(candidate)} training samples is {count}, "
            f"expected 1…{len(candidates)}, the samples of the source classes"
        )
    # The labels drawn for random wrong classes use the same seed: another stream for the choice.
    generator = np.random.default_rng([seed, 1])
    return np.sort(generator.choice(candidates, size=count, replace=False))
