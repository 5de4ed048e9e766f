"""What became of every input, and how a report keeps it."""

import json

import numpy as np
import pytest

from fineprune.errors import DataError
from fineprune.evaluation.outcomes import Outcomes, Truth, as_report, from_report

LABELS = np.array([0, 1, 1, 2])
ALONE = np.arange(4)


def one_target(groups=ALONE):
    return Truth(LABELS, np.where(LABELS == 0, -1, 0), LABELS != 0, groups, targeted=True)


def said(truth, clean=(0, 1, 0, 2), triggered=(0, 0, 1, 1)):
    return Outcomes.of(np.array(clean), np.array(triggered), truth)


def assert_same(one, other):
    for name in ("right", "kept", "eligible", "groups"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    np.testing.assert_array_equal(one.fooled, other.fooled)


def test_by_hand():
    found = said(one_target())
    assert found.right.tolist() == [True, True, False, True]
    assert found.kept.tolist() == [True, False, True, False]
    assert found.fooled[found.eligible].tolist() == [True, False, False]


def test_an_untargeted_attack_fools_nobody_in_particular():
    assert said(Truth(LABELS, np.full(4, -1), np.ones(4, bool), ALONE, targeted=False)).fooled is None


@pytest.mark.parametrize("groups", [ALONE, np.array([7, 7, 3, 9])])
@pytest.mark.parametrize("targeted", [True, False])
def test_a_report_keeps_them(groups, targeted):
    truth = one_target(groups) if targeted else Truth(LABELS, LABELS, LABELS > 0, groups, targeted=False)
    models = {"one": said(truth), "two": said(truth, clean=(2, 2, 2, 2))}
    kept = json.loads(json.dumps(as_report(models), allow_nan=False))
    for name, model in models.items():
        found = from_report(kept, name)
        assert_same(found, Outcomes(**{**vars(model), "groups": np.unique(groups, return_inverse=True)[1]}))


def test_a_report_says_it_in_few_words():
    assert as_report({"one": said(one_target(np.array([7, 7, 3, 9])))}) == {
        "eligible": "0111",
        "groups": "1 1 0 2",
        "models": {"one": {"right": "1101", "kept": "1010", "fooled": "0100"}},
    }
    assert as_report({"one": said(one_target())})["groups"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, r"one\.right: expected 0 and 1 for 4 test inputs, found None"),
        ({"models": {"one": {"right": "110", "kept": "1010"}}}, r"one\.right: .* found '110'"),
        ({"models": {"one": {"right": "1101", "kept": "1012"}}}, r"one\.kept: .* found '1012'"),
        ({"models": {"one": {"right": "1101", "kept": "1010", "fooled": 1}}}, r"one\.fooled: .* found 1"),
        ({"eligible": None}, r"eligible: expected 0 and 1, found None"),
        ({"eligible": "0000"}, r"eligible: expected a 1 for some input, found none of 4"),
        ({"eligible": ""}, r"eligible: expected a 1 for some input, found none of 0"),
        ({"groups": "0 1 2"}, r"groups: expected 4 numbers below 4, found '0 1 2'"),
        ({"groups": "0 1 2 4"}, r"groups: .* found '0 1 2 4'"),
        ({"groups": "0 1 -1 2"}, r"groups: .* found '0 1 -1 2'"),
        ({"groups": [0, 1, 2, 3]}, r"groups: .* found \[0, 1, 2, 3\]"),
    ],
)
def test_what_a_report_has_instead_is_named(change, message):
    with pytest.raises(DataError, match=f"^outcomes: {message}$"):
        from_report(as_report({"one": said(one_target())}) | change, "one")


@pytest.mark.parametrize("kept", [None, [], "1101"])
def test_a_report_without_them_is_told(kept):
    with pytest.raises(DataError, match="outcomes: eligible: expected 0 and 1, found None"):
        from_report(kept, "one")


class TestRefusals:
    def test_of_other_lengths(self):
        truth = one_target()
        with pytest.raises(
            DataError, match=r"triggered predictions: expected .* 4 test inputs, found \(3,\)"
        ):
            Outcomes.of(LABELS, LABELS[1:], truth)
        with pytest.raises(DataError, match="clean predictions"):
            Outcomes.of(LABELS[1:], LABELS, truth)
        with pytest.raises(DataError, match="eligible"):
            Truth(LABELS, LABELS, np.ones(3, bool), ALONE, targeted=False)

    def test_of_no_eligible_input(self):
        with pytest.raises(DataError, match="no input of 4"):
            Truth(LABELS, np.full(4, -1), np.zeros(4, bool), ALONE, targeted=True)

    @pytest.mark.parametrize("wanted", [-1, 0])
    def test_of_an_eligible_input_without_a_wrong_label(self, wanted):
        with pytest.raises(DataError, match="eligible input"):
            Truth(LABELS, np.full(4, wanted), np.ones(4, bool), ALONE, targeted=True)
