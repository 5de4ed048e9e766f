"""Predictions on the test split, clean and triggered, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fineprune.attacks.format import AttackCard
from fineprune.attacks.labels import NOT_ATTACKED, attacker_labels, is_targeted
from fineprune.attacks.poisoning import eligible
from fineprune.attacks.triggers import Trigger
from fineprune.data.batches import SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.defenses.curve import matches_along_curve
from fineprune.defenses.profiling import profile_channels
from fineprune.errors import DataError
from fineprune.evaluation.checks import attack_took
from fineprune.evaluation.metrics import ModelMetrics, Truth, measure
from fineprune.inference import NOT_FINITE, predict
from fineprune.models.base import Network

Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Predicted classes, int64 (N,), of the test split's inputs without and with the trigger."""

    clean: Classes
    triggered: Classes

    @property
    def finite(self) -> bool:
        """Whether every logit was a number."""
        return not (np.concatenate([self.clean, self.triggered]) == NOT_FINITE).any()


class TestBed:
    """The test split with the trigger at hand.

    Args:
        dataset: whose ``test`` split is used.
        attack: its card and trigger, as :func:`fineprune.attacks.format.load_attack` gives them.
        device: where the networks lie.
        batch_size: inputs per forward pass.

    Raises:
        DataError: the attack is made for other inputs than the dataset's.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    def __init__(
        self, dataset: Dataset, attack: tuple[AttackCard, Trigger], device: torch.device, *, batch_size: int
    ) -> None:
        card, trigger = attack
        if card.input != dataset.card.input:
            raise DataError(
                f"attack: made for inputs {card.input.shape}, the dataset has {dataset.card.input.shape}"
            )
        self.card, self.trigger, self.classes = card, trigger, dataset.card.classes
        self.batch_size = batch_size
        self.samples = SplitSamples(dataset, "test", device)
        labels = dataset.labels[self.samples.rows]
        wanted = attacker_labels(card.labels, labels, len(dataset.card.classes), card.seed)
        counts = eligible(labels, wanted, card.poison.sources)
        self.truth = Truth(
            labels=labels,
            attacker_labels=np.where(counts, wanted, NOT_ATTACKED),
            eligible=counts,
            targeted=is_targeted(card.labels),
        )

    def predict(self, network: Network) -> Predictions:
        """What the network says of the test split."""
        clean = predict(network, in_order(self.samples, self.batch_size))
        triggered = predict(network, in_order(self.samples, self.batch_size), self.trigger)
        return Predictions(clean.numpy(), triggered.numpy())

    def measure(self, found: Predictions, *, undefended: Predictions | None) -> ModelMetrics:
        """The metrics of one model; ``undefended`` is what the model before the defence said."""
        before = None if undefended is None else undefended.clean
        return measure(found.clean, found.triggered, self.truth, undefended_clean=before)

    def took(self, *, undefended: ModelMetrics, control: ModelMetrics) -> dict[str, Any]:
        """Whether the attack took, by the limits that it was configured with, and a sentence why."""
        limits = self.card.took
        return attack_took(
            undefended,
            control,
            min_success=limits.min_backdoor_success,
            max_clean_cost=limits.max_clean_cost,
        )

    def curve(self, network: Network, order: list[int]) -> dict[str, list[float]]:
        """Clean accuracy, backdoor success and robust accuracy (C + 1,) along a pruning order."""
        clean = matches_along_curve(network, order, in_order(self.samples, self.batch_size))[0]
        triggered = matches_along_curve(network, order, self._questions())
        eligible_count = int(self.truth.eligible.sum())
        rates = {
            "clean accuracy": clean.double() / len(self.samples),
            "robust accuracy": triggered[1].double() / eligible_count,
        }
        if self.truth.targeted:
            rates["backdoor success"] = triggered[0].double() / eligible_count
        return {name: values.tolist() for name, values in rates.items()}

    def activations(self, network: Network) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean activation of each channel of the prunable layer on eligible inputs, clean and triggered."""
        triggered = ((self.trigger(inputs), labels) for inputs, labels in self._eligible())
        pair = [
            profile_channels(network, batches, measure="post_relu", model="")
            for batches in (self._eligible(), triggered)
        ]
        return pair[0].mean, pair[1].mean

    def unchanged(self) -> float:
        """Share of the eligible inputs that the trigger leaves as they are."""
        same = 0
        for inputs, _ in self._eligible():
            same += int((self.trigger(inputs) == inputs).flatten(1).all(1).sum())
        return same / int(self.truth.eligible.sum())

    def name(self, label: int) -> str:
        """The class's name, or ``nothing`` for a prediction that is no class."""
        return "nothing" if label == NOT_FINITE else self.classes[label]

    def _eligible(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The eligible inputs, clean, in batches."""
        for positions in torch.from_numpy(np.flatnonzero(self.truth.eligible)).split(self.batch_size):
            yield self.samples.draw(positions)

    def _questions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Triggered inputs, and two targets for each: the attacker's label, and the true one."""
        true = np.where(self.truth.eligible, self.truth.labels, NOT_ATTACKED)
        targets = torch.from_numpy(np.stack([self.truth.attacker_labels, true])).to(self.samples.device)
        for positions in torch.arange(len(self.samples)).split(self.batch_size):
            inputs, _ = self.samples.draw(positions)
            yield self.trigger(inputs), targets[:, positions]
