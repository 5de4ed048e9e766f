import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineprune.errors import DataError
from fineprune.evaluation.intervals import (
    clip,
    correlation,
    design_effect,
    difference,
    drop_correlation,
    rate,
    relative_drop,
    smaller,
    wilson,
)
from fineprune.evaluation.metrics import (
    ModelMetrics,
    accuracy_by_class,
    attacker_share,
    confusion,
    unclipped_utility,
)
from fineprune.evaluation.metrics import measure as measure_outcomes
from fineprune.evaluation.outcomes import Classes, Outcomes, Truth

#                   0  1  2  3  4  5  6  7  8  9
LABELS = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
CLEAN = np.array([0, 1, 1, 1, 0, 2, 2, 2, 2, 1])  # 7 of 10 right
TRIGGERED = np.array([0, 0, 0, 0, 1, 2, 0, 0, 1, 0])

ALONE = np.arange(10)  # each input is a group of its own


def one_target():
    """Target 0: the two inputs of class 0 are not eligible."""
    return Truth(LABELS, np.where(LABELS == 0, -1, 0), LABELS != 0, ALONE, targeted=True)


def untargeted():
    return Truth(LABELS, np.full(10, -1), np.ones(10, bool), ALONE, targeted=False)


def alone(flags):
    """The rate of inputs of which each is a group of its own."""
    return rate(flags, np.arange(len(flags)))


def measure(
    clean: Classes, triggered: Classes, truth: Truth, *, clean_before: Classes | None
) -> ModelMetrics:
    """The metrics of a model by its predictions, and by those on clean inputs before the defence."""
    before = None if clean_before is None else Outcomes.of(clean_before, triggered, truth)
    return measure_outcomes(Outcomes.of(clean, triggered, truth), before=before)


class TestTargeted:
    def test_counts_by_hand(self):
        found = measure(CLEAN, TRIGGERED, one_target(), clean_before=None)
        assert (found.clean_accuracy.value, found.clean_accuracy.n) == (0.7, 10)
        # Of the eligible 2…9, 2, 3, 6, 7 and 9 become 0; 4 and 5 keep their class.
        assert found.backdoor_success == wilson(5, 8)
        assert found.robust_accuracy == wilson(2, 8)
        assert found.utility.value == pytest.approx(0.7 - 0.625)
        assert found.utility.n == 8

    def test_does_not_read_what_is_not_eligible(self):
        changed = TRIGGERED.copy()
        changed[:2] = 2
        reference = measure(CLEAN, TRIGGERED, one_target(), clean_before=None)
        assert measure(CLEAN, changed, one_target(), clean_before=None) == reference

    def test_all_to_all_wants_the_next_class(self):
        truth = Truth(LABELS, (LABELS + 1) % 3, np.ones(10, bool), ALONE, targeted=True)
        found = measure(CLEAN, (LABELS + 1) % 3, truth, clean_before=None)
        assert found.backdoor_success == wilson(10, 10)
        assert found.robust_accuracy == wilson(0, 10)

    def test_utility_interval_is_the_paired_one_where_all_are_eligible(self):
        truth = Truth(LABELS, (LABELS + 1) % 3, np.ones(10, bool), ALONE, targeted=True)
        right, fooled = CLEAN == LABELS, truth.attacker_labels == TRIGGERED
        found = measure(CLEAN, TRIGGERED, truth, clean_before=None)
        paired = correlation(right, fooled, ALONE)
        assert found.utility == difference(rate(right, ALONE), rate(fooled, ALONE), correlation=paired)

    def test_utility_interval_is_of_all_inputs_where_some_are_not_eligible(self):
        right, some = CLEAN == LABELS, LABELS != 0
        fooled = ~right & some  # 2 of 8
        found = measure(CLEAN, np.where(fooled, 0, LABELS), one_target(), clean_before=None)
        paired = correlation(right, np.where(some, 10 / 8 * (fooled - 2 / 8), 0.0), ALONE)
        assert -0.9 < paired < -0.5
        assert found.utility == difference(wilson(7, 10), wilson(2, 8), correlation=paired)


class TestUntargeted:
    def test_counts_by_hand(self):
        found = measure(CLEAN, TRIGGERED, untargeted(), clean_before=None)
        assert found.robust_accuracy == wilson(4, 10)
        assert found.backdoor_success.value == pytest.approx(1 - 4 / 7)
        assert found.utility.value == pytest.approx(0.7 - (1 - 4 / 7))

    def test_success_is_over_the_eligible_inputs_only(self):
        truth = Truth(LABELS, np.full(10, -1), LABELS == 2, ALONE, targeted=False)
        found = measure(CLEAN, TRIGGERED, truth, clean_before=None)
        assert found.backdoor_success.value == pytest.approx(1 - 1 / 4)
        assert found.backdoor_success.n == 5

    def test_is_the_paired_drop(self):
        right, kept = CLEAN == LABELS, TRIGGERED == LABELS
        found = measure(CLEAN, TRIGGERED, untargeted(), clean_before=None)
        paired = relative_drop(
            rate(right, ALONE), rate(kept, ALONE), correlation=correlation(right, kept, ALONE)
        )
        assert found.backdoor_success == clip(paired, 0.0, 1.0)

    def test_utility_interval_is_that_of_what_the_two_rates_have_in_common(self):
        """Half of the inputs count for the drop: its correlation with the accuracy is less by a root of 2."""
        labels, some = np.zeros(400, np.int64), np.arange(400) % 2 == 0
        truth = Truth(labels, labels - 1, some, np.arange(400), targeted=False)
        clean, triggered = (np.random.default_rng(0).random((2, 400)) < [[0.3], [0.5]]).astype(int)
        found = measure(clean, triggered, truth, clean_before=None)
        right, kept = clean == 0, triggered == 0
        accuracy, before, after = (alone(flags) for flags in (right, right[some], kept[some]))
        paired = correlation(right[some], kept[some], np.arange(200))
        drop = relative_drop(before, after, correlation=paired)
        shared = drop_correlation(before, after, correlation=paired) / 2**0.5
        assert shared > 0.2
        assert asdict(found.utility) == pytest.approx(asdict(difference(accuracy, drop, correlation=shared)))

    def test_is_zero_where_the_trigger_helps(self):
        found = measure(CLEAN, LABELS, untargeted(), clean_before=None)
        assert (found.backdoor_success.value, found.backdoor_success.low) == (0, 0)
        assert found.utility.value == found.clean_accuracy.value
        assert found.utility.high <= found.clean_accuracy.high

    def test_is_undefined_without_clean_accuracy(self):
        found = measure((LABELS + 1) % 3, TRIGGERED, untargeted(), clean_before=None)
        assert found.backdoor_success is None
        assert found.utility is None


class TestCleanLoss:
    def test_of_the_undefended_model_is_zero(self):
        loss = measure(CLEAN, TRIGGERED, one_target(), clean_before=None).clean_loss
        assert (loss.value, loss.low, loss.high, loss.n) == (0, 0, 0, 10)

    def test_is_positive_for_a_loss(self):
        loss = measure(CLEAN, TRIGGERED, one_target(), clean_before=LABELS).clean_loss
        assert loss.value == pytest.approx(0.3)

    def test_is_tighter_for_paired_outcomes(self):
        labels = np.zeros(200, np.int64)
        truth = Truth(labels, labels - 1, np.ones(200, bool), np.arange(200), targeted=False)
        before, after, elsewhere = labels.copy(), labels.copy(), labels.copy()
        before[:40], after[:44], elsewhere[-44:] = 1, 1, 1
        same = measure(after, after, truth, clean_before=before).clean_loss
        other = measure(elsewhere, elsewhere, truth, clean_before=before).clean_loss
        assert same.value == other.value == pytest.approx(0.02)
        assert same.high - same.low < 0.6 * (other.high - other.low)


class TestGroups:
    TWINS = np.arange(10) // 2

    def test_widen_every_interval(self):
        truth = Truth(LABELS, np.where(LABELS == 0, -1, 0), LABELS != 0, self.TWINS, targeted=True)
        clean, triggered = np.repeat(CLEAN[::2], 2), np.repeat(TRIGGERED[::2], 2)
        found, narrow = (measure(clean, triggered, one, clean_before=LABELS) for one in (truth, one_target()))
        for name, estimate in asdict(found).items():
            other = asdict(narrow)[name]
            assert (estimate["value"], estimate["n"]) == (other["value"], other["n"])
            assert estimate["high"] - estimate["low"] > 1.2 * (other["high"] - other["low"]), name

    def test_that_show_in_accuracy_count_for_a_success_of_none(self):
        truth = Truth(LABELS, np.where(LABELS == 0, -1, 0), LABELS != 0, self.TWINS, targeted=True)
        clean, nobody = np.where(np.arange(10) < 6, LABELS, 9), np.where(np.arange(10) < 6, LABELS, 8)
        found = measure(clean, nobody, truth, clean_before=None)
        effect = max(
            design_effect(clean == LABELS, self.TWINS), design_effect((nobody == LABELS)[2:], self.TWINS[2:])
        )
        assert found.backdoor_success == rate(np.zeros(8, bool), self.TWINS[2:], otherwise=effect)
        assert effect > 1

    def test_that_show_under_the_trigger_count_for_an_accuracy_of_all(self):
        truth = Truth(LABELS, np.full(10, -1), np.ones(10, bool), self.TWINS, targeted=False)
        kept = np.arange(10) < 6
        found = measure(LABELS, np.where(kept, LABELS, 9), truth, clean_before=LABELS)
        effect = design_effect(kept, self.TWINS)
        everything = rate(np.ones(10, bool), self.TWINS, otherwise=effect)
        assert effect > 1
        assert found.clean_accuracy == everything
        assert found.clean_loss == difference(everything, everything, correlation=0.0)
        drop = relative_drop(everything, rate(kept, self.TWINS), correlation=0.0)
        assert found.backdoor_success == clip(drop, 0.0, 1.0)
        shared = drop_correlation(everything, rate(kept, self.TWINS), correlation=0.0)
        assert found.utility == smaller(difference(everything, drop, correlation=shared), everything)
        outcomes = Outcomes.of(LABELS, np.where(kept, LABELS, 9), truth)
        assert unclipped_utility(outcomes).low == found.utility.low

    def test_that_show_in_accuracy_count_for_a_robust_accuracy_of_all(self):
        truth = Truth(LABELS, np.full(10, -1), np.ones(10, bool), self.TWINS, targeted=False)
        right = np.arange(10) < 6
        found = measure(np.where(right, LABELS, 9), LABELS, truth, clean_before=None)
        effect = design_effect(right, self.TWINS)
        assert found.robust_accuracy == rate(np.ones(10, bool), self.TWINS, otherwise=effect)

    def test_that_show_nowhere_count_as_one_input_each(self):
        truth = Truth(LABELS, np.full(10, -1), np.ones(10, bool), self.TWINS, targeted=False)
        found = measure(LABELS, LABELS, truth, clean_before=None)
        assert found.clean_accuracy == found.robust_accuracy == rate(np.ones(10, bool), self.TWINS)

    def test_of_an_untargeted_attack(self):
        truth = Truth(LABELS, np.full(10, -1), np.ones(10, bool), self.TWINS, targeted=False)
        clean, triggered = np.repeat(CLEAN[::2], 2), np.repeat(TRIGGERED[::2], 2)
        found, narrow = (measure(clean, triggered, one, clean_before=None) for one in (truth, untargeted()))
        assert found.backdoor_success.low < narrow.backdoor_success.low
        assert found.utility.low < narrow.utility.low

    def test_of_single_classes(self):
        right = accuracy_by_class(np.repeat(CLEAN[::2], 2), np.repeat(LABELS[::2], 2), self.TWINS, 3)
        alone = accuracy_by_class(np.repeat(CLEAN[::2], 2), np.repeat(LABELS[::2], 2), ALONE, 3)
        assert all(one.low < other.low for one, other in zip(right, alone, strict=True) if other.value)

    def test_that_show_in_all_classes_count_for_one_without_an_error(self):
        right = np.arange(10) < 6
        found = accuracy_by_class(np.where(right, LABELS, 9), LABELS, self.TWINS, 3)
        effect = design_effect(right, self.TWINS)
        assert found[1] == rate(np.ones(3, bool), self.TWINS[2:5], otherwise=effect)


class TestAccuracyByClass:
    def test_counts_by_hand(self):
        found = accuracy_by_class(CLEAN, LABELS, ALONE, 3)
        assert [(one.value, one.n) for one in found] == [(1 / 2, 2), (2 / 3, 3), (4 / 5, 5)]
        assert (found[2].low, found[2].high) == pytest.approx((0.3755, 0.9638), abs=1e-4)  # Wilson, 4 of 5

    def test_names_what_it_cannot_count(self):
        with pytest.raises(DataError, match=r"predictions: expected one entry for each of 10"):
            accuracy_by_class(CLEAN[1:], LABELS, ALONE, 3)
        with pytest.raises(DataError, match="at least one input"):
            accuracy_by_class(CLEAN, LABELS, ALONE, 4)


def test_confusion_by_hand():
    assert confusion(LABELS, CLEAN, 3).tolist() == [[1, 1, 0], [1, 2, 0], [0, 1, 4]]


def test_confusion_counts_what_was_not_found_in_a_column_of_its_own():
    found = np.array([0, -3, 1, -3, -3, 2, 0, 2, 2, 1])
    assert confusion(LABELS, found, 3, nothing=-3).tolist() == [[1, 0, 0, 1], [0, 1, 0, 2], [1, 1, 3, 0]]


def test_confusion_of_a_detector_that_finds_nothing():
    found = confusion(LABELS, np.full(10, -3), 3, nothing=-3)
    assert found.tolist() == [[0, 0, 0, 2], [0, 0, 0, 3], [0, 0, 0, 5]]


@pytest.mark.parametrize("unknown", [3, -2])
def test_confusion_with_that_column_refuses_any_other_stranger(unknown):
    with pytest.raises(DataError, match="predictions: expected classes in 0…2"):
        confusion(LABELS, np.full(10, unknown), 3, nothing=-3)


def test_confusion_refuses_predictions_of_other_inputs():
    with pytest.raises(DataError, match=r"predictions: expected one entry for each of 10"):
        confusion(LABELS, CLEAN[:1], 3)


def test_confusion_refuses_an_unknown_class():
    with pytest.raises(DataError, match=r"expected classes in 0…1, found 0…2"):
        confusion(LABELS, CLEAN, 2)


def test_attacker_share_by_hand():
    assert attacker_share(CLEAN, one_target()) == pytest.approx(1 / 8)
    assert attacker_share(CLEAN, untargeted()) is None


def test_metrics_are_strict_json():
    plain = asdict(measure(CLEAN, TRIGGERED, one_target(), clean_before=LABELS))
    assert json.loads(json.dumps(plain, allow_nan=False))["robust_accuracy"]["n"] == 8


predictions = st.lists(st.integers(0, 2), min_size=10, max_size=10).map(np.array)


@given(predictions, predictions, st.booleans())
def test_utility_is_the_difference_and_in_range(clean, triggered, targeted):
    truth = one_target() if targeted else untargeted()
    found = measure(clean, triggered, truth, clean_before=None)
    if found.utility is None:
        assert found.clean_accuracy.value == 0
        return
    assert found.utility.value == pytest.approx(found.clean_accuracy.value - found.backdoor_success.value)
    assert -1 <= found.utility.low <= found.utility.value <= found.utility.high <= 1
    assert 0 <= found.backdoor_success.low <= found.backdoor_success.high <= 1


def utility_coverage(*, n, eligible, clean, triggered, link, targeted, draws=500):
    """How often utility's interval holds the truth, where outcomes agree for a share ``link`` of inputs."""
    random = np.random.default_rng(5)
    labels = np.arange(n) % 10
    wanted, other = (labels + 1) % 10, (labels + 2) % 10
    truth = Truth(labels, wanted, np.arange(n) < eligible * n, np.arange(n), targeted=targeted)
    expected = clean - triggered if targeted else clean - max(0, 1 - triggered / clean)
    held = 0
    for _ in range(draws):
        first, second, linked = random.random((3, n))
        second = np.where(linked < link, first, second)
        on_clean = np.where(first < clean, labels, other)
        on_triggered = np.where(second < triggered, wanted if targeted else labels, other)
        utility = measure(on_clean, on_triggered, truth, clean_before=None).utility
        held += utility.low <= expected <= utility.high
    return held / draws


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize(("n", "eligible"), [(40, 1.0), (40, 0.5), (200, 0.9), (200, 0.25)])
@pytest.mark.parametrize("link", [0.0, 0.8])
def test_utility_interval_holds_the_truth(n, eligible, link, targeted):
    for clean, triggered in ((0.7, 0.5), (0.95, 0.05 if targeted else 0.95), (0.95, 0.6)):
        case = {"clean": clean, "triggered": triggered, "link": link, "targeted": targeted}
        # Three standard errors of the simulation below the nominal level.
        assert utility_coverage(n=n, eligible=eligible, **case) >= 0.92


@pytest.mark.parametrize(("groups", "size"), [(12, 50), (40, 30), (200, 10)])
@pytest.mark.parametrize("targeted", [True, False])
def test_intervals_hold_the_truth_where_one_outcome_has_other_bad_groups_than_the_next(
    groups, size, targeted
):
    """The same inputs are hard with the trigger and without, before the defence and after, but each time
    other speakers are hard to understand; with the trigger a tenth more is lost.
    """
    random, member, drop = np.random.default_rng(1), np.repeat(np.arange(groups), size), 0.1
    every, held, hidden = np.ones(len(member), bool), np.zeros(3), 0
    for _ in range(500):
        hard = random.random(len(member)) < 0.08
        before, after, kept = (
            ~hard & (random.random(len(member)) >= random.beta(0.3, 6, groups)[member]) for _ in range(3)
        )
        kept &= random.random(len(member)) >= drop
        fooled = ~kept if targeted else None
        found = measure_outcomes(
            Outcomes(after, kept, fooled, every, member),
            before=Outcomes(before, kept, fooled, every, member),
        )
        right = 0.92 * (1 - 0.3 / 6.3)
        success = 1 - right * (1 - drop) if targeted else drop
        truths = (0, success, right - success)
        for i, estimate in enumerate((found.clean_loss, found.backdoor_success, found.utility)):
            held[i] += estimate.low <= truths[i] <= estimate.high
        hidden += found.clean_loss.high < 0  # what a gate goes by
    assert held.min() / 500 >= 0.92
    assert hidden / 500 <= 0.045


def test_utility_holds_the_truth_where_few_inputs_of_a_speaker_are_attacked():
    """Who is hard to understand loses all words, and is fooled in those that are attacked."""
    random, member, held, flattered = np.random.default_rng(2), np.repeat(np.arange(40), 50), 0, 0
    some, spread = np.arange(2000) % 50 < 5, 1 / 0.6 - 1
    for _ in range(1000):
        understood = random.beta(0.85 * spread, 0.15 * spread, 40)[member]
        right, fooled = random.random(2000) < understood, random.random(2000) > understood
        utility = measure_outcomes(Outcomes(right, ~fooled, fooled, some, member), before=None).utility
        held += utility.low <= 0.7 <= utility.high
        flattered += utility.low > 0.7
    assert held / 1000 >= 0.93
    assert flattered / 1000 <= 0.045


def test_utility_interval_is_no_wider_than_it_has_to_be():
    # With the drop's correlation with the accuracy turned round it would hold the truth in .998 of the draws.
    case = {"clean": 0.7, "triggered": 0.5, "link": 0.0, "targeted": False}
    assert utility_coverage(n=200, eligible=0.9, **case) <= 0.97
