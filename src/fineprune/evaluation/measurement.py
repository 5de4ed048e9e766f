"""Predictions on the test split, clean and triggered, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fineprune.attacks.format import AttackCard
from fineprune.attacks.labels import NOT_ATTACKED, is_targeted
from fineprune.attacks.poisoning import aims
from fineprune.attacks.triggers import Trigger
from fineprune.data.batches import Batch, SplitSamples, in_order
from fineprune.data.format import EMPTY, Dataset
from fineprune.defenses.curve import matches_along_curve
from fineprune.defenses.profiling import Measure, profile_channels
from fineprune.errors import DataError
from fineprune.evaluation.average_precision import AveragePrecision, Detected, average_precision
from fineprune.evaluation.checks import attack_took
from fineprune.evaluation.intervals import Estimate
from fineprune.evaluation.metrics import ModelMetrics, accuracy_by_class
from fineprune.evaluation.outcomes import Classes, Outcomes, Truth
from fineprune.inference import outputs
from fineprune.models.base import NOT_FINITE, Detections, Network
from fineprune.models.format import describe_input
from fineprune.progress import progress


@dataclass(frozen=True)
class Predictions:
    """What a model says of the test split's inputs without and with the trigger.

    Attributes:
        clean, triggered: int64 (M,), the class for each of the M labels of the split.
        found, found_triggered: what a detector found in each of the inputs; None for a classifier.
    """

    clean: Classes
    triggered: Classes
    found: Detected | None = None
    found_triggered: Detected | None = None

    @property
    def finite(self) -> bool:
        """Whether every output was a number."""
        return not (np.concatenate([self.clean, self.triggered]) == NOT_FINITE).any()


class TestBed:
    """The test split with the trigger at hand.

    What is counted is labels: the inputs of a classification task, the objects of a detection task.

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
            found = describe_input(dataset.card.input)
            raise DataError(f"attack: made for {describe_input(card.input)}, the dataset has {found}")
        self.card, self.trigger, self.classes = card, trigger, dataset.card.classes
        self.batch_size = batch_size
        self.samples = SplitSamples(dataset, "test", device)
        self.labels = dataset.labels[self.samples.rows]
        self._groups = dataset.groups[self.samples.rows]
        wanted, self._eligible = aims(
            self.labels, card.labels, card.poison.sources, classes=len(self.classes), seed=card.seed
        )
        self._wanted = np.where(self._eligible, wanted, NOT_ATTACKED)
        self._there = self.labels != EMPTY
        self.truth = Truth(
            labels=self.labels[self._there],
            attacker_labels=self._wanted[self._there],
            eligible=self._eligible[self._there],
            groups=np.repeat(self._groups, self._there.reshape(len(self.labels), -1).sum(1)),
            targeted=is_targeted(card.labels),
        )

    def predict(self, network: Network) -> Predictions:
        """What the network says of the test split."""
        clean, found = self._ask(network, None)
        triggered, found_triggered = self._ask(network, self.trigger)
        return Predictions(clean, triggered, found, found_triggered)

    def outcomes(self, said: Predictions) -> Outcomes:
        """What became of each label of the split under the model that said this."""
        return Outcomes.of(said.clean, said.triggered, self.truth)

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
        true = np.where(self._eligible, self.labels, EMPTY)
        clean, triggered = (
            matches_along_curve(network, order, questions, exact=True).double()
            for questions in (
                self._questions(self.labels, true, trigger=None),
                self._questions(self._wanted, true, trigger=self.trigger),
            )
        )
        total, attacked = len(self.truth.labels), int(self.truth.eligible.sum())
        if self.truth.targeted:
            success = triggered[0] / attacked
        else:  # without a right answer on clean inputs the success is undefined, and drawn as none
            success = (1 - triggered[1] / clean[1].clamp(min=1)).clamp(0, 1) * (clean[1] > 0)
        rates = {
            "clean accuracy": clean[0] / total,
            "robust accuracy": triggered[1] / attacked,
            "backdoor success": success,
        }
        return {name: values.tolist() for name, values in rates.items()}

    def activations(self, network: Network, measure: Measure) -> dict[str, tuple[float, ...]]:
        """Mean activation (C,) of the prunable layer's channels on eligible inputs, clean and triggered.

        Args:
            network: in evaluation mode.
            measure: what is averaged, see :class:`fineprune.defenses.profiling.Profile`.
        """
        triggered = (
            batch._replace(inputs=self.trigger(batch.inputs, batch.places)) for batch in self._attacked()
        )
        return {
            name: profile_channels(network, batches, measure=measure).mean
            for name, batches in (("clean", self._attacked()), ("triggered", triggered))
        }

    def accuracy_by_class(self, said: Predictions) -> tuple[Estimate, ...]:
        """Clean accuracy of each class."""
        return accuracy_by_class(said.clean, self.truth.labels, self.truth.groups, len(self.classes))

    def average_precision(self, said: Predictions) -> AveragePrecision | None:
        """VOC AP at IoU 0.5 on the clean inputs; None for a classifier."""
        boxes, found = self.samples.places, said.found
        if found is None or boxes is None:
            return None
        return average_precision(
            found, boxes.cpu().numpy(), self.labels, classes=len(self.classes), groups=self._groups
        )

    def unchanged(self) -> float:
        """Share of the eligible inputs that the trigger leaves as they are."""
        same, total = 0, 0
        for inputs, _, places in self._attacked():
            same += int((self.trigger(inputs, places) == inputs).flatten(1).all(1).sum())
            total += len(inputs)
        return same / total

    def attacked_positions(self) -> Classes:
        """The positions in the split of the eligible inputs: those with an eligible label."""
        return np.flatnonzero(self._eligible.reshape(len(self.labels), -1).any(axis=1))

    def _ask(self, network: Network, trigger: Trigger | None) -> tuple[Classes, Detected | None]:
        """What the network says of each label, (M,), and what it found where it is a detector."""
        answers, found = [], []
        for output, batch in outputs(network, in_order(self.samples, self.batch_size), trigger):
            answers.append(network.answers(output, batch.places).cpu().numpy())
            if isinstance(output, Detections):
                found.append([part.cpu().numpy() for part in output])
        said = np.concatenate(answers)[self._there]
        return said, Detected(*map(np.concatenate, zip(*found, strict=True))) if found else None

    def _attacked(self) -> Iterator[Batch]:
        """The eligible inputs, clean, in batches."""
        for positions in torch.from_numpy(self.attacked_positions()).split(self.batch_size):
            yield self.samples.draw(positions)

    def _questions(self, *labels: Classes, trigger: Trigger | None) -> Iterator[Batch]:
        """The split's inputs, clean or triggered, with several labels for each; with progress."""
        several = torch.from_numpy(np.stack(labels)).to(self.samples.device)
        blocks = torch.arange(len(self.samples)).split(self.batch_size)
        name = f"curve, {'clean' if trigger is None else 'triggered'} inputs"
        for positions in progress(blocks, total=len(blocks), name=name, unit="batch"):
            inputs, _, places = self.samples.draw(positions)
            yield Batch(inputs if trigger is None else trigger(inputs, places), several[:, positions], places)
