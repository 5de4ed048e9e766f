"""What one model does on the test split: clean accuracy, backdoor success, robust accuracy, utility.

Pure functions over outcomes and predicted classes; they know nothing of networks or triggers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fineprune.errors import DataError
from fineprune.evaluation.intervals import (
    Estimate,
    Flags,
    Groups,
    Influence,
    clip,
    correlation,
    design_effect,
    difference,
    drop_correlation,
    rate,
    relative_drop,
    smaller,
)
from fineprune.evaluation.outcomes import Classes, Outcomes, Truth, check_length


@dataclass(frozen=True)
class ModelMetrics:
    """What was measured of one model; every estimate with its 95 % interval.

    Attributes:
        clean_accuracy: share of clean inputs that get their true class.
        backdoor_success: targeted, share of eligible triggered inputs that get the attacker's label;
            untargeted, ``1 - A_triggered / A_clean`` over the eligible inputs, clipped to [0, 1], and
            None where A_clean is zero.
        robust_accuracy: share of eligible triggered inputs that get their true class.
        utility: ``clean_accuracy - backdoor_success``; None where the latter is. Its interval is a
            MOVER difference; the correlation comes from the paired outcomes (targeted), or through the
            ratio that success is by the delta method (untargeted).
        clean_loss: clean accuracy of the model before the defence minus this one's, on the same inputs.
    """

    clean_accuracy: Estimate
    backdoor_success: Estimate | None
    robust_accuracy: Estimate
    utility: Estimate | None
    clean_loss: Estimate


def measure(said: Outcomes, *, before: Outcomes | None) -> ModelMetrics:
    """The metrics of one model.

    Args:
        said: its outcomes.
        before: those of the model before the defence, on the same inputs; None where there was no defence,
            which loses nothing.
    """
    otherwise = _design_effect(said)
    accuracy = rate(said.right, said.groups, otherwise=otherwise)
    robust = rate(said.kept[said.eligible], said.groups[said.eligible], otherwise=otherwise)
    success, utility = _success_and_utility(accuracy, said, otherwise)
    if utility is not None and said.fooled is None:
        # accuracy - max(0, drop) = min(accuracy - drop, accuracy): clipping the drop before subtracting it
        # would break its correlation with the accuracy.
        utility = smaller(utility, accuracy)
    loss = Estimate(0.0, 0.0, 0.0, accuracy.n)
    if before is not None:
        earlier = rate(before.right, said.groups, otherwise=otherwise)
        shared = correlation(before.right, said.right, said.groups)
        loss = difference(earlier, accuracy, correlation=shared)
    return ModelMetrics(accuracy, success, robust, utility, loss)


def unclipped_utility(said: Outcomes) -> Estimate | None:
    """Utility whose untargeted success may be negative; None where that is undefined. It is at least -1, and
    above 2 where the trigger more than doubles the accuracy.

    A success that is clipped at zero counts noise on one side alone, and so speaks against a model that
    sometimes gains by the trigger and sometimes loses.
    """
    otherwise = _design_effect(said)
    accuracy = rate(said.right, said.groups, otherwise=otherwise)
    return _success_and_utility(accuracy, said, otherwise)[1]


def _design_effect(said: Outcomes) -> float | None:
    """What a model's other outcomes show of the groups, for one that is the same for all inputs."""
    some = said.eligible
    effects = (design_effect(said.right, said.groups), design_effect(said.kept[some], said.groups[some]))
    return max((effect for effect in effects if effect is not None), default=None)


def attacker_share(predictions: Classes, truth: Truth) -> float | None:
    """Share of the eligible inputs that are predicted as the attacker's label; None if untargeted.

    Args:
        predictions: (N,) int, predicted classes of clean or of triggered inputs.
        truth: labels of the same N inputs.
    """
    if not truth.targeted:
        return None
    return float(np.mean((predictions == truth.attacker_labels)[truth.eligible]))


def accuracy_by_class(
    predictions: Classes, labels: Classes, groups: Groups, classes: int
) -> tuple[Estimate, ...]:
    """Clean accuracy of each class, with its 95 % interval.

    Args:
        predictions: (N,) int, predicted classes of the clean inputs.
        labels: (N,) int in 0…classes-1, the true ones.
        groups: (N,) int, the speaker, video or image that each input is of.
        classes: how many there are.

    Raises:
        DataError: the lengths differ, or a class has no input.
    """
    check_length("predictions", predictions, len(labels))
    right = predictions == labels
    otherwise = design_effect(right, groups)
    rows = (labels == label for label in range(classes))
    return tuple(rate(right[some], groups[some], otherwise=otherwise) for some in rows)


def influence(flags: Flags, eligible: Flags) -> Influence:
    """(N,) float64: the influence of each input on the share of true ``flags`` (N,) among the eligible ones,
    times N; its mean over all inputs is zero.
    """
    weight = eligible * (len(eligible) / np.count_nonzero(eligible))
    return np.asarray(weight * (flags - float(flags[eligible].mean())))


def confusion(labels: Classes, predictions: Classes, classes: int, nothing: int | None = None) -> Classes:
    """(classes, classes) int64 counts: row = true class, column = predicted class.

    Args:
        labels: (N,) int in 0…classes-1.
        predictions: the same.
        classes: how many there are.
        nothing: the prediction that stands for no answer, counted in a further column; None for none.

    Raises:
        DataError: the lengths differ, or a class is out of range.
    """
    check_length("predictions", predictions, len(labels))
    missed = np.zeros(len(labels), dtype=bool) if nothing is None else predictions == nothing
    for name, values in (("labels", labels), ("predictions", predictions[~missed])):
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise DataError(
                f"{name}: expected classes in 0…{classes - 1}, found {values.min()}…{values.max()}"
            )
    columns = classes if nothing is None else classes + 1
    cells = labels * columns + np.where(missed, classes, predictions)
    return np.bincount(cells, minlength=classes * columns).reshape(classes, columns)


def _success_and_utility(
    accuracy: Estimate, said: Outcomes, otherwise: float | None
) -> tuple[Estimate | None, Estimate | None]:
    """Backdoor success, and ``accuracy`` minus it, before clipping, with the correlation of the two."""
    some = said.eligible
    groups = said.groups[some]
    if said.fooled is not None:
        success = rate(said.fooled[some], groups, otherwise=otherwise)
        # Of all inputs: an eligible one may be of a group with others, and stumble with them.
        shared = correlation(said.right, influence(said.fooled, some), said.groups)
        return success, difference(accuracy, success, correlation=shared)
    right, kept = said.right[some], said.kept[some]
    # Only the eligible inputs are common to both rates, which dilutes the correlation of the two.
    common = math.sqrt(len(right) / len(some))
    before, after = (rate(flags, groups, otherwise=otherwise) for flags in (right, kept))
    paired = correlation(right, kept, groups)
    drop = relative_drop(before, after, correlation=paired)
    if drop is None:
        return None, None
    shared = common * drop_correlation(before, after, correlation=paired)
    return clip(drop, 0.0, 1.0), difference(accuracy, drop, correlation=shared)
