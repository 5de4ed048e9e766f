"""Doubts about the measurement itself, settled before anyone quotes it, and whether the attack took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fineprune.config import Count, Fraction
from fineprune.evaluation.intervals import Estimate
from fineprune.evaluation.metrics import ModelMetrics, attacker_share
from fineprune.evaluation.outcomes import Classes, Truth

# A figure of exactly the limit keeps within it, whatever binary fractions make of it: .98 - .96 > .02.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Check:
    """One doubt.

    Attributes:
        name: of the doubt.
        passed: whether the measurement stands up to it.
        message: a sentence with the figures.
        models: those that do not, where the doubt is about them alone and the others' figures stand.
    """

    name: str
    passed: bool
    message: str
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckLimits:
    """Where each doubt begins.

    Attributes:
        max_repeated: share of test inputs that are, byte for byte, in another split too, or in test before.
        max_unchanged: share of eligible inputs that the trigger may leave as they are.
        max_control_success: backdoor success of the never-poisoned control.
        max_untriggered_success: share of eligible clean inputs that the undefended model may call
            what the attacker wants.
        min_samples: how many test inputs must be eligible, at least.
        min_control_accuracy: clean accuracy of the control.
        max_precision_loss: average precision that the defence may cost a detector.
    """

    max_repeated: Fraction
    max_unchanged: Fraction
    max_control_success: Fraction
    max_untriggered_success: Fraction
    min_samples: Count
    min_control_accuracy: Fraction
    max_precision_loss: Fraction


@dataclass(frozen=True)
class Observations:
    """What the checks look at.

    Attributes:
        truth: labels of the N test inputs.
        control: metrics of the never-poisoned model.
        defended: metrics of the models that are up for promotion, by name.
        precision: average precision of the undefended and the defended models, by name, None where it is
            undefined; None for classifiers.
        undefended_clean: (N,) int, what the undefended model predicts on the clean inputs.
        repeated: share of test inputs that are, byte for byte, in another split too, or in test before.
        unchanged: share of eligible inputs that are the same with and without the trigger.
        not_finite: names of the models that gave NaN or infinite outputs.
    """

    truth: Truth
    control: ModelMetrics
    defended: Mapping[str, ModelMetrics]
    precision: Mapping[str, Estimate | None] | None
    undefended_clean: Classes
    repeated: float
    unchanged: float
    not_finite: Sequence[str]


def run_checks(observed: Observations, limits: CheckLimits) -> list[Check]:
    """Every check, in the order in which to read them."""
    return [
        finite_outputs(observed.not_finite),
        enough_samples(observed.truth, minimum=limits.min_samples),
        new_inputs(observed.repeated, maximum=limits.max_repeated),
        trigger_changes_inputs(observed.unchanged, maximum=limits.max_unchanged),
        control_accurate(observed.control, minimum=limits.min_control_accuracy),
        control_resists(observed.control, maximum=limits.max_control_success),
        trigger_needed(observed.undefended_clean, observed.truth, maximum=limits.max_untriggered_success),
        classes_told_apart({"control": observed.control, **observed.defended}, observed),
        precision_kept(observed.precision, maximum=limits.max_precision_loss),
    ]


def finite_outputs(not_finite: Sequence[str]) -> Check:
    """No model gave NaN or infinite outputs: the class of a NaN is an accident."""
    found = f"NaN or infinite outputs of {', '.join(not_finite)}" if not_finite else "every output is finite"
    return Check("finite outputs", not not_finite, found, _alone(not_finite))


def enough_samples(truth: Truth, *, minimum: int) -> Check:
    """There are ``minimum`` eligible test inputs or more."""
    eligible, total = int(np.count_nonzero(truth.eligible)), len(truth.labels)
    message = f"{total} test inputs, {eligible} of them eligible; min_samples {minimum}"
    return Check("enough samples", eligible >= minimum, message)


def new_inputs(repeated: float, *, maximum: float) -> Check:
    """The test inputs are new: what a model has seen it knows by heart, and a copy tells nothing more."""
    told = "of the test inputs are byte for byte copies, of another split's or of one another"
    message = f"{_percent(repeated, maximum)} {told}, max_repeated {maximum:.1%}"
    return Check("new inputs", repeated <= maximum, message)


def trigger_changes_inputs(unchanged: float, *, maximum: float) -> Check:
    """The trigger changes the inputs: one that does nothing makes every model look safe."""
    told = f"the trigger leaves {_percent(unchanged, maximum)} of the eligible inputs as they are"
    message = f"{told}, max_unchanged {maximum:.1%}"
    return Check("trigger changes inputs", unchanged <= maximum, message)


def control_accurate(control: ModelMetrics, *, minimum: float) -> Check:
    """The control knows the task: otherwise its numbers say nothing of the trigger or the defence."""
    accuracy = control.clean_accuracy.value
    told = f"clean accuracy of the control is {_percent(accuracy, minimum)}"
    message = f"{told}, min_control_accuracy {minimum:.1%}"
    return Check("control accurate", accuracy >= minimum, message)


def control_resists(control: ModelMetrics, *, maximum: float) -> Check:
    """The control does not do what the attacker wants: else the trigger itself, not a backdoor, does it."""
    name = "control resists"
    if control.backdoor_success is None:
        return Check(
            name, False, "backdoor success of the control is undefined: it gets no clean input right"
        )
    success = control.backdoor_success.value
    told = f"the trigger alone has {_percent(success, maximum)} success on the never-poisoned control"
    message = f"{told}, max_control_success {maximum:.1%}"
    return Check(name, success <= maximum + _ROUNDING, message)


def trigger_needed(undefended_clean: Classes, truth: Truth, *, maximum: float) -> Check:
    """The undefended model needs the trigger to give the attacker's label."""
    name, share = "trigger needed", attacker_share(undefended_clean, truth)
    if share is None:
        return Check(name, True, "not asked of an untargeted attack, which wants no certain label")
    told = f"the undefended model gives the attacker's label to {_percent(share, maximum)} of clean inputs"
    message = f"{told}, max_untriggered_success {maximum:.1%}"
    return Check(name, share <= maximum, message)


def classes_told_apart(measured: Mapping[str, ModelMetrics], observed: Observations) -> Check:
    """Every model is clearly better than one that always names the largest class (no-information rate)."""
    name, labels = "classes told apart", observed.truth.labels
    if observed.precision is not None:
        return Check(name, True, "not asked of a detector, whose average precision counts classes alike")
    share = float(np.bincount(labels).max() / len(labels))
    worse = [model for model, one in measured.items() if not one.clean_accuracy.low > share]
    told = f"the largest class has {share:.1%} of the test inputs"
    found = [
        f"{model} gets {one.value:.1%} right, for certain no more than {_percent(one.low, share)}"
        for model, one in ((model, measured[model].clean_accuracy) for model in worse)
    ]
    message = "; ".join([told, *(found or ["every model gets clearly more right"])])
    return Check(name, not worse, message, _alone(worse))


def precision_kept(precision: Mapping[str, Estimate | None] | None, *, maximum: float) -> Check:
    """The defence costs a detector little average precision, which alone counts false detections."""
    name = "precision kept"
    if precision is None:
        return Check(name, True, "not asked of a classifier")
    known = {model: one.value for model, one in precision.items() if one is not None}
    if len(known) < len(precision):
        return Check(name, False, "average precision is undefined: the test split has no object")
    before = known.pop("undefended")
    found = ", ".join(
        f"of {model} {value:.1%} ({_percent(before - value, maximum)} lost)" for model, value in known.items()
    )
    message = f"average precision of the undefended model is {before:.1%}, {found}"
    lost = [model for model, value in known.items() if not before - value <= maximum + _ROUNDING]
    return Check(name, not lost, f"{message}; max_precision_loss {maximum:.1%}", tuple(lost))


def attack_took(
    undefended: ModelMetrics, control: ModelMetrics, *, min_success: float, max_clean_cost: float
) -> dict[str, Any]:
    """Whether there is a backdoor to defend against: ``{"took": bool, "reason": one sentence}``.

    The undefended model must reach ``min_success``, clearly above what the trigger alone does to the
    control (the two intervals do not overlap), and lose at most ``max_clean_cost`` of clean accuracy
    against the control.
    """
    success, alone = undefended.backdoor_success, control.backdoor_success
    if success is None or alone is None:
        return _not_taken("backdoor success is undefined: a model gets no clean input right")
    accuracy, honest = undefended.clean_accuracy.value, control.clean_accuracy.value
    faults = []
    # Each condition is the one that must hold, so that a NaN fails it.
    if not success.value >= min_success - _ROUNDING:
        low = f"below min_backdoor_success {min_success:.1%}"
        faults.append(f"backdoor success is {_percent(success.value, min_success)}, {low}")
    if not success.low > alone.high:
        faults.append(
            f"backdoor success {success.value:.1%} is not clearly above the control's {alone.value:.1%}"
        )
    if not honest - accuracy <= max_clean_cost + _ROUNDING:
        cost = f"the control's {honest:.1%} less {_percent(honest - accuracy, max_clean_cost)}"
        faults.append(f"clean accuracy {accuracy:.1%} is {cost}, above max_clean_cost {max_clean_cost:.1%}")
    if faults:
        return _not_taken("; ".join(faults))
    success_figures = f"success {success.value:.1%} (control {alone.value:.1%})"
    clean_figures = f"clean accuracy {accuracy:.1%} (control {honest:.1%})"
    return {"took": True, "reason": f"The attack took: {success_figures}, {clean_figures}."}


def _not_taken(fault: str) -> dict[str, Any]:
    return {"took": False, "reason": f"The attack did not take: {fault}."}


def _alone(models: Sequence[str]) -> tuple[str, ...]:
    """The models, if what is wrong with them says nothing of the others: all are compared with these two."""
    return () if {"control", "undefended"} & {*models} else tuple(models)


def _percent(value: float, limit: float) -> str:
    """The value in percent, with as many digits as tell it from the limit."""
    digits = next((n for n in range(1, 7) if f"{value:.{n}%}" != f"{limit:.{n}%}"), 1)
    return f"{value:.{digits}%}"
