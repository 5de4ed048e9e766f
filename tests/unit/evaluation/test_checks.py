import dataclasses
import math

import numpy as np
import pytest

from fineprune.evaluation.checks import CheckLimits, Observations, attack_took, run_checks
from fineprune.evaluation.intervals import Estimate, wilson
from fineprune.evaluation.metrics import ModelMetrics
from fineprune.evaluation.outcomes import Truth
from fineprune.gate import CHECKS

LIMITS = CheckLimits(
    max_repeated=0.05,
    max_unchanged=0.1,
    max_control_success=0.2,
    max_untriggered_success=0.15,
    min_samples=100,
    min_control_accuracy=0.7,
    max_precision_loss=0.05,
)


def metrics(clean, success, n=200):
    rates = {"clean_accuracy": wilson(round(clean * n), n), "robust_accuracy": wilson(n // 2, n)}
    bd = None if success is None else wilson(round(success * n), n)
    return ModelMetrics(**rates, backdoor_success=bd, utility=bd, clean_loss=Estimate(0, 0, 0, n))


def evidence(**changes):
    """A sound measurement of 120 inputs in 3 classes with target 0, changed as asked."""
    labels = np.repeat([1, 2, 1, 2, 0], [30, 30, 30, 15, 15])
    truth = Truth(labels, np.where(labels == 0, -1, 0), labels != 0, np.arange(len(labels)), targeted=True)
    sound = Observations(
        truth=truth,
        control=metrics(0.95, 0.03),
        defended={"fine_tuned": metrics(0.9, 0.0), "fine_pruned": metrics(0.8, 0.0)},
        precision=None,
        undefended_clean=labels,
        repeated=0.0,
        unchanged=0.0,
        not_finite=(),
    )
    return dataclasses.replace(sound, **changes)


def failed(found):
    return {check.name: check.message for check in run_checks(found, LIMITS) if not check.passed}


def test_a_sound_measurement_passes_every_check():
    checks = run_checks(evidence(), LIMITS)
    assert tuple(check.name for check in checks) == CHECKS  # what the gate asks for
    assert all(check.passed for check in checks)


def fifth_of_the_eligible_called_zero():
    predictions = evidence().truth.labels.copy()
    predictions[:21] = 0
    return predictions


def precision(*values):
    found = (None if value is None else Estimate(value, value, value, 9) for value in values)
    return dict(zip(("undefended", "fine_tuned", "fine_pruned"), found, strict=True))


def truth_of(labels, eligible):
    return Truth(labels, np.where(eligible, 0, -1), eligible, np.arange(len(labels)), targeted=True)


FAULTS = {
    "finite outputs": ({"not_finite": ("pruned", "fine_tuned")}, "pruned, fine_tuned"),
    "trigger changes inputs": (
        {"unchanged": 0.25},
        "25.0% of the eligible inputs as they are, ",
    ),
    "control accurate": ({"control": metrics(0.6, 0.03)}, "60.0%, min_control_accuracy 70.0%"),
    "control resists": ({"control": metrics(0.95, 0.35)}, "35.0% success on the never-poisoned control"),
    "trigger needed": ({"undefended_clean": fifth_of_the_eligible_called_zero()}, "20.0% of clean inputs"),
    "enough samples": (
        {"truth": truth_of(np.repeat([0, 1, 2], [40, 50, 40]), np.repeat([False, True], [40, 90]))},
        "130 test inputs, 90 of them eligible; min_samples 100",
    ),
    "classes told apart": (
        {"defended": {"fine_tuned": metrics(0.9, 0.0), "fine_pruned": metrics(0.4, 0.0)}},
        "the largest class has 50.0% of the test inputs; fine_pruned gets 40.0% right, for certain no more",
    ),
    "precision kept": (
        {"precision": precision(0.9, 0.88, 0.84)},
        "model is 90.0%, of fine_tuned 88.0% (2.0% lost), of fine_pruned 84.0% (6.0% lost); max_precision",
    ),
    "new inputs": ({"repeated": 0.25}, "25.0% of the test inputs are byte for byte copies"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_fails_its_own_check_with_the_figures(name):
    changes, words = FAULTS[name]
    if "truth" in changes:
        changes = {**changes, "undefended_clean": changes["truth"].labels}
    found = failed(evidence(**changes))
    assert list(found) == [name]
    assert words in found[name]


def test_every_check_has_a_fault_in_this_file():
    assert {check.name for check in run_checks(evidence(), LIMITS)} == set(FAULTS)


@pytest.mark.parametrize(
    ("changes", "models"),
    [
        ({"not_finite": ("pruned", "fine_tuned")}, ("pruned", "fine_tuned")),
        ({"not_finite": ("control", "fine_tuned")}, ()),
        ({"not_finite": ("undefended",)}, ()),
        ({"precision": precision(0.9, 0.88, 0.84)}, ("fine_pruned",)),
        ({"precision": precision(0.9, None, 0.9)}, ()),
        (
            {"defended": {"fine_tuned": metrics(0.4, 0.0), "fine_pruned": metrics(0.9, 0.0)}},
            ("fine_tuned",),
        ),
        ({"unchanged": 0.25}, ()),
    ],
)
def test_a_fault_of_single_models_names_them(changes, models):
    (check,) = [check for check in run_checks(evidence(**changes), LIMITS) if not check.passed]
    assert check.models == models


def test_a_figure_that_rounds_to_its_limit_is_told_with_more_digits():
    almost = dataclasses.replace(metrics(0.7, 0.03), clean_accuracy=wilson(139_960, 200_000))
    said = failed(evidence(control=almost))["control accurate"]
    assert said == "clean accuracy of the control is 69.98%, min_control_accuracy 70.0%"


def test_a_ratio_of_exactly_the_limit_is_within_it():
    third = Estimate(1 - 0.7, 0.2, 0.4, 100)  # .30000000000000004
    control = dataclasses.replace(metrics(0.95, 0.0), backdoor_success=third)
    limits = dataclasses.replace(LIMITS, max_control_success=0.3)
    assert all(check.passed for check in run_checks(evidence(control=control), limits))
    below = dataclasses.replace(metrics(0.95, 0.9), backdoor_success=Estimate(0.8 - 1e-12, 0.7, 0.9, 100))
    assert attack_took(below, metrics(0.95, 0.0), min_success=0.8, max_clean_cost=0.05)["took"]


def test_a_model_that_is_not_clearly_better_than_one_class_fails():
    of_one_class = np.repeat([1, 2], [116, 4])  # 96.7 %
    truth = truth_of(of_one_class, np.ones(120, bool))
    changes = {"truth": truth, "undefended_clean": of_one_class}
    told = "control gets 95.0% right, for certain no more than 91.0%; fine_tuned"
    assert told in failed(evidence(**changes))["classes told apart"]
    barely = dataclasses.replace(metrics(0.0, 0.0), clean_accuracy=Estimate(0.98, 0.96, 0.99, 120))
    clearly = dataclasses.replace(metrics(0.0, 0.0), clean_accuracy=Estimate(0.99, 0.97, 0.999, 120))
    for one, found in ((barely, ["classes told apart"]), (clearly, [])):
        assert list(failed(evidence(**changes, control=clearly, defended={"fine_pruned": one}))) == found


def test_a_detector_is_asked_for_its_precision_instead():
    poor = {"fine_tuned": metrics(0.4, 0.0), "fine_pruned": metrics(0.4, 0.0)}
    assert not failed(evidence(defended=poor, precision=precision(0.9, 0.95, 0.86)))
    undefined = failed(evidence(precision=precision(0.9, None, 0.9)))
    assert undefined == {"precision kept": "average precision is undefined: the test split has no object"}
    assert failed(evidence(precision=precision(0.9, 0.9, math.nan)))


def test_an_undefined_control_success_fails():
    assert "undefined" in failed(evidence(control=metrics(0.95, None)))["control resists"]


@pytest.mark.parametrize("changes", [{"unchanged": math.nan}, {"repeated": math.nan}])
def test_nan_does_not_pass(changes):
    assert failed(evidence(**changes))


def test_values_at_the_limit_pass():
    assert not failed(evidence(repeated=0.05, unchanged=0.1, control=metrics(0.7, 0.2)))
    assert not failed(evidence(precision=precision(0.93, 0.88, 0.95)))  # .93 - .88 is above .05 in binary
    labels, eligible = np.repeat([0, 1, 2], [40, 50, 50]), np.repeat([False, True], [40, 100])
    called_zero = labels.copy()
    called_zero[40:55] = 0  # 15 of the 100 that are eligible
    assert not failed(evidence(truth=truth_of(labels, eligible), undefended_clean=called_zero))


def test_a_share_that_is_not_above_the_largest_classes_fails():
    share = 60 / 120
    even = dataclasses.replace(metrics(0.9, 0.0), clean_accuracy=Estimate(0.9, share, 0.95, 120))
    assert list(failed(evidence(defended={"fine_pruned": even}))) == ["classes told apart"]


def test_an_untargeted_attack_wants_no_certain_label():
    truth = dataclasses.replace(evidence().truth, targeted=False)
    everything_called_zero = np.zeros(120, np.int64)
    assert not failed(evidence(truth=truth, undefended_clean=everything_called_zero))


def test_what_passes_says_so():
    told = {check.name: check.message for check in run_checks(evidence(), LIMITS)}
    assert told["finite outputs"] == "every output is finite"
    assert told["classes told apart"].endswith("; every model gets clearly more right")


class TestAttackTook:
    limits = {"min_success": 0.7, "max_clean_cost": 0.05}  # noqa: RUF012

    def test_with_high_success_at_little_cost(self):
        found = attack_took(metrics(0.94, 0.98), metrics(0.96, 0.02), **self.limits)
        assert found["took"] is True
        for figure in ("98.0%", "2.0%", "94.0%", "96.0%"):
            assert figure in found["reason"]

    @pytest.mark.parametrize(
        ("undefended", "control", "words"),
        [
            (metrics(0.95, 0.5), metrics(0.95, 0.02), "50.0%, below min_backdoor_success 70.0%"),
            (metrics(0.95, 0.75), metrics(0.95, 0.7), "not clearly above the control's 70.0%"),
            (metrics(0.95, 0.78), metrics(0.95, 0.7), "not clearly above the control's 70.0%"),
            (
                metrics(0.85, 0.98),
                metrics(0.95, 0.02),
                "85.0% is the control's 95.0% less 10.0%, above max_clean_cost 5.0%",
            ),
            (
                metrics(0.9, 0.98),
                dataclasses.replace(metrics(0.9, 0.02), clean_accuracy=Estimate(0.9504, 0.9, 0.97, 100)),
                "less 5.04%, above max_clean_cost 5.0%",
            ),
            (metrics(0.95, None), metrics(0.95, 0.02), "undefined"),
            (metrics(0.95, 0.98), metrics(0.95, None), "undefined"),
        ],
    )
    def test_not_with_a_fault(self, undefended, control, words):
        found = attack_took(undefended, control, **self.limits)
        assert found["took"] is False
        assert words in found["reason"]

    def test_with_figures_at_the_limits(self):
        undefended, control = metrics(0.88, 0.7), metrics(0.93, 0.02)  # .93 - .88 is above .05 in binary
        assert attack_took(undefended, control, **self.limits)["took"] is True
        beside = Estimate(0.5, 0.4, undefended.backdoor_success.low, 200)
        touching = dataclasses.replace(control, backdoor_success=beside)
        assert attack_took(undefended, touching, **self.limits)["took"] is False

    def test_with_a_network_that_is_better_than_the_control(self):
        assert attack_took(metrics(0.99, 0.98), metrics(0.9, 0.02), **self.limits)["took"] is True

    def test_names_every_fault(self):
        reason = attack_took(metrics(0.5, 0.1), metrics(0.95, 0.1), **self.limits)["reason"]
        assert reason.count(";") == 2

    def test_not_with_nan(self):
        broken = dataclasses.replace(metrics(0.95, 0.9), backdoor_success=Estimate(*[math.nan] * 3, 200))
        assert attack_took(broken, metrics(0.95, 0.02), **self.limits)["took"] is False
