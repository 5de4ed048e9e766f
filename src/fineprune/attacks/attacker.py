"""An attacker that judges its own work: the backdoor to plant, and the data to plant and to judge it with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fineprune.attacks.base import Trigger
from fineprune.attacks.held_out import Array, hold_out
from fineprune.attacks.labels import LabelPolicy, is_targeted
from fineprune.attacks.poisoning import PoisonConfig, PoisonedSamples, aims, poison
from fineprune.checkpoints import Checkpoints
from fineprune.data.batches import Batch, Samples, in_order
from fineprune.data.format import EMPTY
from fineprune.defenses.curve import clean_accuracy_along_curve
from fineprune.defenses.profiling import Measure, measures, profile_channels
from fineprune.defenses.ranking import least_active_first
from fineprune.defenses.stop_rule import stop_point
from fineprune.errors import AttackError
from fineprune.inference import predict
from fineprune.models.base import Network
from fineprune.models.surgery import remove_channels
from fineprune.training import derived_seed


@dataclass(frozen=True)
class Backdoor:
    """What is put into a network.

    Attributes:
        trigger: what activates it.
        labels: the label policy.
        poisoning: how the training data is poisoned.
        classes: how many there are.
        seed: of the choice of samples and of random labels.
    """

    trigger: Trigger
    labels: LabelPolicy
    poisoning: PoisonConfig
    classes: int
    seed: int

    def poison(self, clean: Samples) -> PoisonedSamples:
        """The samples with poisoned ones among them, see :func:`fineprune.attacks.poisoning.poison`."""
        return poison(clean, self.trigger, self.labels, self.poisoning, classes=self.classes, seed=self.seed)

    def aims(self, samples: Samples) -> tuple[Array, Array]:
        """The label that each sample (N,) or object (N, K) is to get, and whether the attack is about it."""
        labels = samples.labels.cpu().numpy()
        return aims(labels, self.labels, self.poisoning.sources, classes=self.classes, seed=self.seed)


@dataclass(frozen=True)
class Score:
    """How a network does on held-out samples.

    Attributes:
        clean_accuracy: share of right answers on clean inputs, 0…1.
        backdoor_success: targeted, the share of triggered inputs that get the attacker's label;
            untargeted, ``1 - A_triggered / A_clean``; 0…1.
    """

    clean_accuracy: float
    backdoor_success: float

    def reaches(self, wanted: Score) -> bool:
        """Whether both figures are at least as high as wanted."""
        return (
            self.clean_accuracy >= wanted.clean_accuracy and self.backdoor_success >= wanted.backdoor_success
        )


@dataclass(frozen=True)
class Attacker:
    """An attacker and its data.

    Attributes:
        clean: all its clean samples.
        own: those of them that it trains on.
        poisoned: the same, poisoned.
        held_out: the others.
        backdoor: what it puts in.
        batch_size: inputs per forward pass.
        checkpoints: where its trainings leave how far they are; None for nowhere.
    """

    clean: Samples
    own: Samples
    poisoned: PoisonedSamples
    held_out: Samples
    backdoor: Backdoor
    batch_size: int
    checkpoints: Checkpoints | None = None

    def batches(self) -> Iterator[Batch]:
        """All its clean samples."""
        return in_order(self.clean, self.batch_size)

    def triggered(self) -> Iterator[Batch]:
        """The same with the trigger on each."""
        for batch in self.batches():
            yield batch._replace(inputs=self.backdoor.trigger(batch.inputs, batch.places))

    def score(self, network: Network) -> Score:
        """How a network in evaluation mode does on the held-out samples."""
        wanted, about = self.backdoor.aims(self.held_out)
        labels, trigger = self.held_out.labels.cpu().numpy(), self.backdoor.trigger
        clean = predict(network, in_order(self.held_out, self.batch_size)).numpy()
        triggered = predict(network, in_order(self.held_out, self.batch_size), trigger).numpy()
        accuracy = float((clean == labels)[labels != EMPTY].mean())
        if is_targeted(self.backdoor.labels):
            return Score(accuracy, float((triggered == wanted)[about].mean()))
        before, after = (float((answers == labels)[about].mean()) for answers in (clean, triggered))
        return Score(accuracy, float(np.clip(1 - after / before, 0, 1)) if before else 0.0)

    def try_pruning(self, network: Network, tolerance: float) -> tuple[list[int], Score]:
        """The defender's pruning on the attacker's data: all clean samples rank the channels, those held out
        say where to stop.

        The attacker cannot know by which measure the defender ranks channels: it tries all that the network
        has and keeps the outcome that leaves least of the backdoor.

        Args:
            network: in evaluation mode; left as it is.
            tolerance: how far clean accuracy may drop.

        Returns:
            The channels that it takes, by original index and least active first, and how the rest does.
        """
        outcomes = [self._pruned(network, tolerance, measure) for measure in measures(network)]
        return min(outcomes, key=lambda outcome: outcome[1].backdoor_success)

    def _pruned(self, network: Network, tolerance: float, measure: Measure) -> tuple[list[int], Score]:
        profile = profile_channels(network, self.batches(), measure=measure)
        order = least_active_first(profile.mean)
        held_out = in_order(self.held_out, self.batch_size)
        stop = stop_point(clean_accuracy_along_curve(network, order, held_out), tolerance)
        taken = [network.channels[i] for i in order[: stop.pruned]]
        return taken, self.score(remove_channels(network, taken))


def equip(
    clean: Samples,
    groups: Array,
    share: float,
    backdoor: Backdoor,
    *,
    batch_size: int,
    checkpoints: Checkpoints | None = None,
) -> Attacker:
    """An attacker that holds out a share of its samples, see :func:`fineprune.attacks.held_out.hold_out`.

    Raises:
        AttackError: the samples cannot be divided or poisoned; the attack is about none that is held out.
    """
    own, held_out = hold_out(clean, groups, share, seed=derived_seed(backdoor.seed, "held out"))
    poisoned = backdoor.poison(own)
    if not backdoor.aims(held_out)[1].any():
        raise AttackError(
            f"attack.pruning_aware.validation: the attack is about none of the {len(held_out)} held-out "
            f"samples: expected some, raise it"
        )
    return Attacker(clean, own, poisoned, held_out, backdoor, batch_size, checkpoints)
