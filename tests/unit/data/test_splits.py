import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineprune.data.format import SPLITS, Dataset
from fineprune.data.splits import divide, seen_before, split_by_group
from fineprune.errors import ConfigError, DataError
from tests.unit.nets import write_halves

FRACTIONS = {"defender_fit": 0.15, "defender_holdout": 0.1, "test": 0.3}
DEFENDER = {"defender_fit": 0.1, "defender_holdout": 0.1}


def split(labels, groups=None, fractions=FRACTIONS, *, seed=0, fixed_test=None):
    labels = np.asarray(labels)
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    classes = [f"c{label}" for label in range(max(2, labels.max(initial=0) + 1))]
    return split_by_group(labels, groups, fractions, classes=classes, seed=seed, fixed_test=fixed_test)


def counts(splits, labels):
    return {name: np.bincount(np.asarray(labels)[rows]).tolist() for name, rows in splits.items()}


samples = st.integers(2, 4).flatmap(
    lambda classes: st.lists(
        st.tuples(st.integers(0, classes - 1), st.integers(0, 20)), min_size=1, max_size=120
    )
)
shares = st.fixed_dictionaries({name: st.floats(0.02, 0.3) for name in SPLITS if name != "train"})


@settings(max_examples=150)
@given(samples, shares, st.integers(0, 3))
def test_whole_groups_cover_every_sample_and_class_or_are_refused(rows, fractions, seed):
    labels, groups = np.array(rows).T
    try:
        splits = split(labels, groups, fractions, seed=seed)
    except DataError:
        with pytest.raises(DataError, match=r"has no samples in split|expected at least 4 groups"):
            split(labels, groups, fractions, seed=seed)
        return
    assert tuple(splits) == SPLITS
    everything = np.concatenate(list(splits.values()))
    assert sorted(everything) == list(range(len(labels)))
    sides = {name: set(groups[rows]) for name, rows in splits.items()}
    assert sum(map(len, sides.values())) == len(set(groups))
    assert all(set(labels[rows]) == set(labels) for rows in splits.values())
    again = split(labels, groups, fractions, seed=seed)
    assert all(np.array_equal(splits[name], again[name]) for name in SPLITS)


@settings(max_examples=100)
@given(st.lists(st.integers(4, 40), min_size=2, max_size=6), shares, st.integers(0, 3))
def test_single_samples_are_stratified_by_class(sizes, fractions, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    splits = split(labels, fractions=fractions, seed=seed)
    wanted = fractions | {"train": 1 - sum(fractions.values())}
    for name, found in counts(splits, labels).items():
        for size, count in zip(sizes, found, strict=True):
            # Rounding, what is carried from class to class, and one sample for each split.
            assert abs(count - wanted[name] * size) <= 3


def test_images_without_an_object_are_divided_too(recwarn):
    labels = np.where(np.arange(40)[:, None] < 10, -1, np.arange(40)[:, None] % 2)
    sides = divide(labels, np.arange(40), np.array([0.75, 0.25]), np.random.default_rng(0))
    assert (sides[:10] == 1).sum() in (2, 3)
    assert not recwarn


def test_an_image_with_an_empty_slot_has_an_object_all_the_same():
    objects = np.repeat([0, 1, 2, 3], 20)
    labels = np.random.default_rng(2).integers(0, 2, (80, 3))
    labels[np.arange(3) >= objects[:, None]] = -1
    for seed in range(8):
        sides = divide(labels, np.arange(80), np.array([0.75, 0.25]), np.random.default_rng(seed))
        assert (sides[objects == 0] == 1).sum() == 5


def test_a_split_that_would_be_empty_gets_a_sample_of_the_largest():
    labels, shares = np.repeat([0, 1], 5), {"defender_fit": 0.1, "defender_holdout": 0.1, "test": 0.6}
    assert counts(split(labels, fractions=shares), labels) == {
        "train": [1, 1],
        "defender_fit": [1, 1],
        "defender_holdout": [1, 1],
        "test": [2, 2],
    }


def test_classes_are_divided_exactly_where_the_fractions_allow():
    labels = np.repeat([0, 1], 100)
    assert counts(split(labels), labels) == {
        "train": [45, 45],
        "defender_fit": [15, 15],
        "defender_holdout": [10, 10],
        "test": [30, 30],
    }


def test_what_rounding_owes_a_split_is_made_up_by_later_classes():
    labels = np.repeat(np.arange(20), 14)
    sizes = {name: len(rows) for name, rows in split(labels).items()}
    assert sizes == {"train": 126, "defender_fit": 42, "defender_holdout": 28, "test": 84}


def test_another_seed_gives_another_split():
    labels = np.repeat([0, 1], 100)
    assert not np.array_equal(split(labels, seed=0)["test"], split(labels, seed=1)["test"])


def test_six_speakers_give_three_to_train_and_one_to_each_other_split():
    speakers, labels = np.repeat(np.arange(6), 500), np.tile(np.arange(10), 300)
    splits = split(labels, speakers, DEFENDER | {"test": 0.15})
    found = {name: len(set(speakers[rows])) for name, rows in splits.items()}
    assert found == {"train": 3, "defender_fit": 1, "defender_holdout": 1, "test": 1}


def test_groups_of_unequal_size_come_close_to_the_fractions():
    sizes = np.random.default_rng(3).integers(5, 60, 40)
    groups = np.repeat(np.arange(40), sizes)
    splits = split(groups % 2, groups)
    for name, fraction in FRACTIONS.items():
        assert len(splits[name]) / len(groups) == pytest.approx(fraction, abs=0.01)


def test_many_groups_of_very_unequal_size_come_close_too():
    sizes = np.ceil(5 * np.exp(1.2 * np.random.default_rng(0).normal(size=100))).astype(int)
    groups = np.repeat(np.arange(100), sizes)
    splits = split(groups % 2, groups)
    for name, fraction in FRACTIONS.items():
        assert len(splits[name]) / len(groups) == pytest.approx(fraction, abs=0.005)


def test_few_groups_are_divided_almost_as_well_as_can_be():
    """By squared distances from the shares of each class, over its size."""
    shares = np.array([0.6, 0.25, 0.15])
    every = np.eye(3)[np.indices([3] * 8).reshape(8, -1).T]

    def distance(sides, sizes):
        counts, totals = np.einsum("...gs,gc->...sc", sides, sizes), sizes.sum(0)
        return ((counts - np.outer(shares, totals)) ** 2 / totals).sum((-2, -1))

    for seed in range(6):
        sizes = np.random.default_rng(seed).integers(1, 30, (8, 2))
        groups, labels = np.repeat(np.arange(8), sizes.sum(1)), np.repeat(np.tile([0, 1], 8), sizes.ravel())
        sides = divide(labels, groups, shares, np.random.default_rng(0))
        found = np.eye(3)[sides[np.unique(groups, return_index=True)[1]]]
        assert distance(found, sizes) < distance(every, sizes).min() + 0.3


def test_the_best_of_all_divisions_of_few_groups_is_found():
    sizes = [50, 30, 10, 6, 3, 1]
    groups = np.repeat(np.arange(6), sizes)
    labels = np.arange(100) % 2
    labels[-1] = 0
    fractions = {"defender_fit": 0.1, "defender_holdout": 0.07, "test": 0.3}
    found = {name: len(rows) for name, rows in split(labels, groups, fractions).items()}
    assert found in (
        {"train": 53, "defender_fit": 10, "defender_holdout": 7, "test": 30},
        {"train": 54, "defender_fit": 10, "defender_holdout": 6, "test": 30},
    )


def test_the_authors_test_set_is_kept():
    labels = np.tile([0, 1], 50)
    fixed = np.arange(100) < 10
    splits = split(labels, fractions=DEFENDER, fixed_test=fixed)
    assert splits["test"].tolist() == list(range(10))
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 70,
        "defender_fit": 10,
        "defender_holdout": 10,
        "test": 10,
    }


def test_groups_that_the_authors_test_are_not_there_for_other_splits():
    labels = np.repeat([0, 1], [50, 8])
    fixed = np.isin(np.arange(58), [0, 1, 50, 51, 52, 53, 54])
    assert counts(split(labels, fractions=DEFENDER, fixed_test=fixed), labels)["train"][1] == 1
    fixed[55] = True
    with pytest.raises(
        DataError, match="class 'c1': expected at least 3 groups, one for each split, found 2"
    ):
        split(labels, fractions=DEFENDER, fixed_test=fixed)


def test_the_order_in_which_fractions_are_given_does_not_matter():
    labels = np.arange(90) % 3
    one, other = split(labels), split(labels, fractions=dict(reversed(FRACTIONS.items())))
    assert all(np.array_equal(one[name], other[name]) for name in SPLITS)


def test_refuses_an_authors_test_set_that_cuts_a_group():
    labels, groups = np.tile([0, 1], 50), np.arange(100) // 20
    with pytest.raises(DataError, match=r"whole groups, found group 1 partly in it \(4 such groups\)"):
        split(labels, groups, DEFENDER, fixed_test=(np.arange(100) % 20 == 0) | (groups == 0))


def test_refuses_a_class_with_too_few_groups_for_every_split():
    with pytest.raises(
        DataError, match="class 'c1': expected at least 4 groups, one for each split, found 3"
    ):
        split([0] * 50 + [1] * 3)
    with pytest.raises(
        DataError, match="class 'c0': expected at least 4 groups, one for each split, found 2"
    ):
        split([0] * 50 + [1] * 50, np.arange(100) // 25)
    with pytest.raises(DataError, match=r"class 'c2': expected at least 4 groups, .*, found 0"):
        split_by_group(np.arange(90) % 2, np.arange(90), FRACTIONS, classes=["c0", "c1", "c2"], seed=0)


def test_many_groups_with_rare_classes_are_repaired():
    groups = np.repeat(np.arange(200), 5)
    labels = np.where(np.isin(groups, [3, 50, 120, 190]), 1, 0)
    splits = split(labels, groups)
    assert all(found[1] == 5 for found in counts(splits, labels).values())


def test_rare_classes_that_share_groups_are_repaired_by_exchanges():
    labels = np.full((100, 5), -1)
    labels[:, 0] = 0
    for label, holders in enumerate([(3, 4, 5, 6), (0, 2, 4, 7), (1, 2, 4, 6), (0, 3, 4, 7)], start=1):
        labels[holders, label] = label
    shares = {"defender_fit": 0.15, "defender_holdout": 0.1, "test": 0.25}
    splits = split_by_group(labels, np.arange(100), shares, classes=list("abcde"), seed=0)
    assert all(set(range(5)) <= set(labels[rows].ravel()) for rows in splits.values())


def test_refuses_a_class_that_the_authors_do_not_test():
    labels = np.tile([0, 1], 50)
    with pytest.raises(DataError, match="class 'c1' has no samples in split test"):
        split(labels, fractions=DEFENDER, fixed_test=(np.arange(100) < 10) & (labels == 0))


def test_refuses_fewer_than_two_classes():
    with pytest.raises(DataError, match="at least two classes, found 1"):
        split_by_group(np.zeros(9, int), np.arange(9), FRACTIONS, classes=["a"], seed=0)


@pytest.mark.parametrize(("test", "left"), [(0.75, ""), (0.9, "-0.15$")])
def test_refuses_fractions_that_leave_nothing_for_train(test, left):
    with pytest.raises(ConfigError, match=f"left for train, found {left}"):
        split([0, 1] * 50, fractions=FRACTIONS | {"test": test})


def test_test_inputs_that_are_copies_are_counted(tmp_path, monkeypatch):
    dataset = Dataset(write_halves(tmp_path / "dataset"))
    assert seen_before(dataset) == 0
    inputs = dataset.inputs(slice(None))
    first = {name: rows[0] for name, rows in dataset.splits.items()}
    inputs[dataset.splits["test"][:3]] = inputs[[first["train"], first["defender_holdout"], first["test"]]]
    monkeypatch.setattr(dataset, "inputs", lambda rows: inputs[rows])
    monkeypatch.setattr("fineprune.data.inputs._PIECE", 5 * 64)  # looked at by fives
    assert seen_before(dataset) == 2
    inputs[dataset.splits["test"][3]] = inputs[dataset.splits["test"][2]]
    assert seen_before(dataset) == 3
