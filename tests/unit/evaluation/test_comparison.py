"""Two models on the same inputs."""

import copy
import re
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest

from fineprune.errors import DataError
from fineprune.evaluation.comparison import check_figures, outcomes_behind, utility_gain, utility_influence
from fineprune.evaluation.intervals import correlation, difference
from fineprune.evaluation.metrics import measure
from fineprune.evaluation.outcomes import Outcomes, as_report
from fineprune.gate import TOLERANCE


def model(wrong=(), fooled=(), *, n=200, targeted=True, groups=None):
    """A model that is wrong on some clean inputs and fooled by some triggered ones; the last tenth is not
    eligible."""
    right, success = np.ones(n, bool), np.zeros(n, bool)
    right[list(wrong)], success[list(fooled)] = False, True
    return Outcomes(
        right=right,
        kept=right & ~success,
        fooled=success if targeted else None,
        eligible=np.arange(n) < 0.9 * n,
        groups=np.arange(n) if groups is None else groups,
    )


@pytest.mark.parametrize("targeted", [True, False])
def test_is_the_difference_of_the_utilities(targeted):
    ours = model(range(4), range(50, 53), targeted=targeted)
    theirs = model(range(8), range(50, 60), targeted=targeted)
    gain = utility_gain(ours, theirs)
    utilities = [measure(one, before=None).utility.value for one in (ours, theirs)]
    assert gain.value == pytest.approx(utilities[0] - utilities[1])
    assert gain.low < gain.value < gain.high
    back = utility_gain(theirs, ours)
    assert (back.value, back.low, back.high) == pytest.approx((-gain.value, -gain.high, -gain.low))


def test_without_a_backdoor_is_newcombes_paired_difference():
    ours, theirs = model(range(5)), model(range(3, 12))
    accuracies = [measure(one, before=None) for one in (ours, theirs)]
    # Of no success at all utility's interval reaches lower than accuracy's, but they are as correlated.
    paired = correlation(ours.right, theirs.right, ours.groups)
    assert 0 < paired < 0.5
    assert utility_gain(ours, theirs) == difference(*(one.utility for one in accuracies), correlation=paired)


def test_mistakes_in_common_tell_nothing():
    same = utility_gain(model(range(10)), model(range(15)))
    other = utility_gain(model(range(10)), model(range(20, 35)))
    assert same.value == other.value == pytest.approx(0.025)
    assert same.high - same.low < 0.7 * (other.high - other.low)


@pytest.mark.parametrize("targeted", [True, False])
def test_triggered_inputs_in_common_tell_nothing_either(targeted):
    ours = model(fooled=range(40), targeted=targeted)
    same = utility_gain(ours, model(fooled=range(45), targeted=targeted))
    other = utility_gain(ours, model(fooled=range(60, 105), targeted=targeted))
    assert same.value == other.value == pytest.approx(5 / 180)
    assert same.high - same.low < 0.7 * (other.high - other.low)


@pytest.mark.parametrize("targeted", [True, False])
def test_the_same_model_is_not_better_than_itself(targeted):
    for one in (model(targeted=targeted), model(range(20), range(30, 70), targeted=targeted)):
        gain = utility_gain(one, one)
        assert gain.low < gain.value == 0 < gain.high


def test_one_input_more_proves_nothing_and_many_do():
    assert utility_gain(model(range(3)), model(range(4))).low < 0
    assert utility_gain(model(range(3), range(50, 52)), model(range(3), range(50, 70))).low > 0


def test_is_undefined_where_one_utility_is():
    never = model(range(200), targeted=False)
    assert utility_gain(never, model(targeted=False)) is None
    assert utility_gain(model(targeted=False), never) is None


@pytest.mark.parametrize(
    "other",
    [
        model(n=100),
        model(targeted=False),
        replace(model(), eligible=np.ones(200, bool)),
        model(groups=np.arange(200) // 2),
    ],
)
def test_refuses_outcomes_of_other_inputs(other):
    with pytest.raises(DataError, match="expected those of the same test inputs"):
        utility_gain(model(), other)


@pytest.mark.parametrize("targeted", [True, False])
def test_shares_are_the_derivative_of_the_utility(targeted):
    """An input that is left out takes away what it adds."""
    random = np.random.default_rng(3)
    right, some = random.random(400) < 0.8, random.random(400) < 0.5
    kept = right & (random.random(400) < 0.7)
    fooled = ~kept & (random.random(400) < 0.4) if targeted else None
    groups = np.arange(400)

    def utility(keep):
        rest = None if fooled is None else fooled[keep]
        said = Outcomes(right[keep], kept[keep], rest, some[keep], groups[keep])
        return measure(said, before=None).utility.value

    found = utility_influence(Outcomes(right, kept, fooled, some, groups))
    without = np.array([utility(groups != one) for one in groups])
    np.testing.assert_allclose(400 * (utility(groups >= 0) - without), found - found.mean(), atol=0.05)
    assert len(np.unique(found.round(6))) >= 4


def test_a_success_that_is_clipped_at_zero_hides_nothing():
    """With the trigger theirs recognises twenty inputs more, and ours none."""
    theirs = model(range(40), targeted=False)
    theirs = replace(theirs, kept=theirs.right | (np.arange(200) < 20))
    gain = utility_gain(model(range(40), targeted=False), theirs)
    assert gain.value == 0
    assert gain.low < -0.1 < 0 < gain.high
    back = utility_gain(theirs, model(range(40), targeted=False))
    assert (back.low, back.high) == pytest.approx((-gain.high, -gain.low))


def test_a_trigger_that_helps_a_model_that_is_no_good_keeps_the_interval_in_its_range():
    helped = replace(model([], targeted=False), right=np.arange(200) < 1, kept=np.ones(200, bool))
    for pair in ((model([], targeted=False), helped), (helped, model([], targeted=False))):
        gain = utility_gain(*pair)
        assert -2 <= gain.low <= gain.value <= gain.high <= 2


def test_what_groups_do_not_have_in_common_widens_it():
    random = np.random.default_rng(0)
    groups = np.arange(400) % 20
    hard = random.random(400) < 0.2
    bad = [np.isin(groups, (2, 3)), np.isin(groups, (7, 9))]
    ours, theirs = (
        replace(model(n=400, groups=groups), right=~(hard | own), kept=~(hard | own)) for own in bad
    )
    wide, narrow = utility_gain(ours, theirs), utility_gain(ours, ours)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    inputs = [utility_influence(one) for one in (ours, theirs)]
    sums = [np.bincount(groups, each) for each in inputs]
    by_group, by_input = (np.corrcoef(several)[0, 1] for several in (sums, inputs))
    assert by_group < by_input - 0.1
    utilities = [measure(one, before=None).utility for one in (ours, theirs)]
    assert asdict(wide) == pytest.approx(asdict(difference(*utilities, correlation=by_group)))


def false_alarms(*, targeted, n, groups, shared, own=0.0, draws=300):
    """How often one of two models that are equally good is taken for clearly better; ``own`` is how much of
    the difficulty is of a model's own groups.
    """
    random = np.random.default_rng(7)
    member, found = np.arange(n) % groups, 0
    for _ in range(draws):
        difficulty = random.normal(size=(2, n)) * np.sqrt(shared)
        if groups < n:
            difficulty += random.normal(size=(2, groups))[:, member]
        pair = []
        for _ in range(2):
            score = difficulty + random.normal(size=(2, n)) * np.sqrt(1 - shared)
            score += random.normal(size=(2, groups))[:, member] * np.sqrt(own)
            limit = np.sqrt(1 + (groups < n) + own)
            right, fooled = score[0] > -1.7 * limit, score[1] < -2.0 * limit
            some = np.arange(n) < 0.9 * n
            pair.append(Outcomes(right, right & ~fooled, fooled if targeted else None, some, member))
        found += utility_gain(*pair).low > 0
    return found / draws


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize(("n", "groups"), [(120, 120), (500, 500), (480, 24)])
@pytest.mark.parametrize("shared", [0.5, 0.9])
def test_of_equal_models_none_is_taken_for_better(n, groups, shared, targeted):
    # The nominal level is .025; three standard errors of the simulation above it.
    assert false_alarms(targeted=targeted, n=n, groups=groups, shared=shared) <= 0.052


@pytest.mark.parametrize("targeted", [True, False])
def test_nor_where_each_stumbles_over_speakers_of_its_own(targeted):
    assert false_alarms(targeted=targeted, n=960, groups=24, shared=0.8, own=0.3) <= 0.052


def test_nor_where_one_of_them_changes_its_mind_with_an_untargeted_trigger():
    """Of a success that is clipped at zero, noise would count against it alone."""
    random, found = np.random.default_rng(11), 0
    every = np.ones(539, bool)
    for _ in range(400):
        steady, fickle = (random.random(539) < 0.8 for _ in range(2))
        swapped = np.where(random.random(539) < 0.2, random.random(539) < 0.8, fickle)
        pair = [
            Outcomes(*flags, None, every, np.arange(539)) for flags in ((steady, steady), (fickle, swapped))
        ]
        found += utility_gain(*pair).low > 0
    assert found / 400 <= 0.048


def reported(said):
    models = {"fine_pruned": asdict(measure(said, before=None))}
    return {"models": models, "outcomes": as_report({"fine_pruned": said})}


@pytest.mark.parametrize("targeted", [True, False])
def test_a_reports_outcomes_are_taken_where_they_give_its_figures(targeted):
    said = model(range(7), range(20, 25), targeted=targeted)
    found = outcomes_behind(reported(said), "fine_pruned")
    assert utility_gain(found, said).value == 0


def test_so_are_those_of_a_success_that_is_undefined():
    never = model(range(200), targeted=False)
    assert measure(never, before=None).backdoor_success is None
    assert not outcomes_behind(reported(never), "fine_pruned").right.any()


def test_a_success_that_is_undefined_has_no_figure():
    never = model(range(200), targeted=False)
    report = {
        "models": {"fine_pruned": asdict(measure(never, before=never))},
        "outcomes": as_report({"undefended": never, "fine_pruned": never}),
    }
    check_figures(report, "fine_pruned")
    report["models"]["fine_pruned"]["backdoor_success"] = {"value": 0.0}
    with pytest.raises(DataError, match=r"backdoor_success: expected 0\.0, as reported, found None"):
        check_figures(report, "fine_pruned")


@pytest.mark.parametrize("targeted", [True, False])
def test_figures_have_to_follow_from_the_outcomes_with_their_intervals(targeted):
    before = model(range(4), range(10, 190), targeted=targeted)
    said = model(range(7), range(20, 25), targeted=targeted)
    report = {
        "models": {"fine_pruned": asdict(measure(said, before=before))},
        "outcomes": as_report({"undefended": before, "fine_pruned": said}),
    }
    check_figures(report, "fine_pruned")
    for figure in ("clean_accuracy", "backdoor_success", "utility", "clean_loss"):
        for part, wrong in product(("low", "high", "n"), (1e-3, -1e-3, float("nan"))):
            changed = copy.deepcopy(report)
            changed["models"]["fine_pruned"][figure][part] += wrong
            found = re.escape(f"{report['models']['fine_pruned'][figure][part]:.6g}")
            with pytest.raises(
                DataError,
                match=rf"outcomes: fine_pruned\.{figure}\.{part}: expected .*, as reported, found {found}$",
            ):
                check_figures(changed, "fine_pruned")
            changed["models"]["fine_pruned"][figure] = None
            with pytest.raises(DataError, match=rf"outcomes: fine_pruned\.{figure}"):
                check_figures(changed, "fine_pruned")
    with pytest.raises(DataError, match="undefended"):
        check_figures(reported(said), "fine_pruned")


@pytest.mark.parametrize("figure", ["utility", "clean_loss"])
def test_so_do_values_but_for_the_order_of_sums(figure):
    before, said = model(range(4), range(10, 190)), model(range(7), range(20, 25))
    row = asdict(measure(said, before=before))
    outcomes = as_report({"undefended": before, "fine_pruned": said})
    value = row[figure]["value"]
    for near in (value - TOLERANCE / 2, value + TOLERANCE / 2):
        row[figure]["value"] = near
        check_figures({"models": {"fine_pruned": row}, "outcomes": outcomes}, "fine_pruned")
    row[figure]["value"] = value + 1e-3
    with pytest.raises(DataError, match=rf"outcomes: fine_pruned\.{figure}\.value: expected "):
        check_figures({"models": {"fine_pruned": row}, "outcomes": outcomes}, "fine_pruned")


@pytest.mark.parametrize("figure", ["clean_accuracy", "backdoor_success"])
@pytest.mark.parametrize("value", [0.5, None, "good"])
def test_outcomes_that_contradict_the_figures_are_refused(figure, value):
    report = reported(model(range(7), range(20, 25)))
    report["models"]["fine_pruned"][figure] = {"value": value}
    with pytest.raises(
        DataError, match=rf"outcomes: fine_pruned\.{figure}: expected .*, as reported, found 0"
    ):
        outcomes_behind(report, "fine_pruned")
