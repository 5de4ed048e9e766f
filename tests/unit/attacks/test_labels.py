import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineprune.attacks.labels import (
    NOT_ATTACKED,
    LabelPolicy,
    OneTarget,
    RandomWrong,
    Shift,
    attacker_labels,
    is_targeted,
)
from fineprune.config import parse
from fineprune.errors import AttackError, ConfigError


@st.composite
def problems(draw):
    """How many classes, and some true labels."""
    classes = draw(st.integers(2, 12))
    labels = draw(st.lists(st.integers(0, classes - 1), max_size=50))
    return classes, np.asarray(labels, np.int64)


@given(problems(), st.integers(0, 11))
def test_one_target_leaves_the_targets_own_class_alone(problem, target):
    classes, labels = problem
    target %= classes
    wanted = attacker_labels(OneTarget("one_target", target), labels, classes, seed=0)
    assert (wanted[labels != target] == target).all()
    assert (wanted[labels == target] == NOT_ATTACKED).all()


@given(problems())
def test_shift_is_the_next_class_and_the_last_becomes_the_first(problem):
    classes, labels = problem
    wanted = attacker_labels(Shift("shift"), labels, classes, seed=0)
    assert wanted.tolist() == [label + 1 if label < classes - 1 else 0 for label in labels]


@given(problems(), st.integers(0, 1000))
def test_random_wrong_is_a_class_but_never_the_true_one(problem, seed):
    classes, labels = problem
    wanted = attacker_labels(RandomWrong("random_wrong"), labels, classes, seed)
    assert (wanted != labels).all()
    assert ((wanted >= 0) & (wanted < classes)).all()
    assert (wanted == attacker_labels(RandomWrong("random_wrong"), labels, classes, seed)).all()


def test_random_wrong_draws_every_wrong_class_about_as_often():
    labels = np.full(4000, 2)
    wanted = attacker_labels(RandomWrong("random_wrong"), labels, 5, seed=3)
    counts = np.bincount(wanted, minlength=5)
    assert counts[2] == 0
    assert np.delete(counts, 2).min() > 900
    assert (wanted != attacker_labels(RandomWrong("random_wrong"), labels, 5, seed=4)).any()


@pytest.mark.parametrize("policy", [OneTarget("one_target", 1), Shift("shift"), RandomWrong("random_wrong")])
def test_an_empty_slot_is_not_attacked(policy):
    wanted = attacker_labels(policy, np.array([[0, -1], [-1, 2]]), 3, seed=0)
    assert (wanted == NOT_ATTACKED).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("target", [-1, 10])
def test_a_target_that_is_no_class_is_refused(target):
    with pytest.raises(AttackError, match=rf"expected a class in 0…9, found {target}"):
        attacker_labels(OneTarget("one_target", target), np.arange(10), 10, seed=0)


def test_only_random_wrong_has_no_certain_target():
    assert is_targeted(OneTarget("one_target", 0))
    assert is_targeted(Shift("shift"))
    assert not is_targeted(RandomWrong("random_wrong"))


def test_policies_are_told_by_their_kind():
    assert parse(LabelPolicy, {"kind": "one_target", "target": 3}, "labels") == OneTarget("one_target", 3)
    assert parse(LabelPolicy, {"kind": "shift"}, "labels") == Shift("shift")
    with pytest.raises(ConfigError, match=r"labels\.kind: expected one of one_target, shift, random_wrong"):
        parse(LabelPolicy, {"kind": "all"}, "labels")
    with pytest.raises(ConfigError, match=r"labels\.target: unknown key"):
        parse(LabelPolicy, {"kind": "shift", "target": 3}, "labels")
