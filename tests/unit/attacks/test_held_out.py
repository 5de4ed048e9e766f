import numpy as np
import pytest
import torch

from fineprune.attacks.held_out import Subset, hold_out
from fineprune.errors import AttackError
from tests.unit.nets import InMemory, image

SPEC = image(3, 1, 1)


def numbered(labels):
    """Sample i is a grey pixel of level i."""
    levels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return InMemory(levels.expand(-1, *SPEC.shape).contiguous(), np.asarray(labels, np.int64))


def test_a_subset_draws_the_samples_behind_its_positions():
    subset = Subset(numbered([0, 1, 2, 0, 1]), torch.tensor([4, 2]))
    assert (len(subset), subset.labels.tolist()) == (2, [1, 2])
    batch = subset.draw(torch.tensor([1, 0, 1]))
    assert batch.inputs[:, 0, 0, 0].tolist() == [2, 4, 2]
    assert batch.labels.tolist() == [2, 1, 2]


def test_every_sample_is_on_one_side_and_classes_in_proportion():
    labels = np.arange(40) % 4
    own, rest = hold_out(numbered(labels), np.arange(40), 0.25, seed=0)
    assert sorted([*own.positions.tolist(), *rest.positions.tolist()]) == list(range(40))
    assert sorted(np.bincount(rest.labels.numpy())) == [2, 2, 3, 3]


def test_groups_stay_whole():
    labels, groups = np.arange(60) % 3, np.arange(60) // 6
    own, rest = hold_out(numbered(labels), groups, 0.2, seed=0)
    assert len(rest) == 12
    assert not set(groups[own.positions]) & set(groups[rest.positions])


def test_even_where_a_class_has_but_two():
    groups = np.arange(40) // 10
    own, rest = hold_out(numbered(groups % 2), groups, 0.4, seed=0)
    assert [len(set(groups[side.positions])) for side in (own, rest)] == [2, 2]


def test_a_class_of_a_single_group_is_divided_too():
    labels = np.arange(20) % 2
    own, rest = hold_out(numbered(labels), labels, 0.2, seed=0)
    assert set(own.labels.tolist()) == set(rest.labels.tolist()) == {0, 1}


def test_images_of_several_objects_are_divided_as_a_whole():
    classes = np.arange(24).reshape(12, 2) % 3
    own, rest = hold_out(numbered(np.where(classes == 2, -1, classes)), np.arange(12), 0.25, seed=0)
    assert sorted([*own.positions.tolist(), *rest.positions.tolist()]) == list(range(12))
    assert set(own.labels.flatten().tolist()) == set(rest.labels.flatten().tolist()) == {-1, 0, 1}


def test_the_choice_follows_the_seed():
    samples, groups = numbered(np.arange(40) % 2), np.arange(40)
    one, other, third = (
        hold_out(samples, groups, 0.2, seed=seed)[1].positions.tolist() for seed in (3, 3, 4)
    )
    assert one == other != third


def test_a_side_without_a_sample_is_refused():
    with pytest.raises(AttackError, match=r"validation: 0\.1 of 2 training samples: .*, found 2 and 0"):
        hold_out(numbered([0, 1]), np.arange(2), 0.1, seed=0)
