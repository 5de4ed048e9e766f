from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fineprune.attacks.attacker import Attacker, Backdoor, Score, equip
from fineprune.attacks.fixed import FixedTrigger
from fineprune.attacks.labels import OneTarget, RandomWrong, Shift
from fineprune.attacks.poisoning import PoisonConfig
from fineprune.attacks.post_it import FixedCentre, PostItConfig
from fineprune.attacks.triggers import make_trigger
from fineprune.checkpoints import Checkpoints
from fineprune.errors import AttackError
from fineprune.models.surgery import remove_channels
from tests.unit.nets import InMemory, Pixelwise, image

SPEC = image(3, 1, 1)
NOTHING_ADDED = FixedTrigger(np.float32(1), np.float32(0), SPEC)
RED = FixedTrigger(np.float32(1), np.array([200, 0, 0], np.float32).reshape(3, 1, 1), SPEC)


def coloured(colours, labels):
    """Pixels whose brightest channel is the class that :func:`reader` sees."""
    inputs = torch.zeros(len(colours), *SPEC.shape, dtype=torch.uint8)
    inputs[torch.arange(len(colours)), torch.tensor(colours)] = 100
    return InMemory(inputs, np.asarray(labels, np.int64))


def reader():
    return Pixelwise(np.eye(3).tolist())


def backdoor(policy=None, trigger=NOTHING_ADDED, sources=(), rate=0.5):
    policy = policy or OneTarget("one_target", 0)
    return Backdoor(trigger, policy, PoisonConfig(rate, "added", sources), classes=3, seed=0)


def score(colours, labels, network=None, **changes):
    samples = coloured(colours, labels)
    attacker = Attacker(samples, samples, samples, samples, backdoor(**changes), batch_size=2)
    return attacker.score(network or reader())


def test_targeted_success_is_the_share_that_gets_the_attackers_label():
    # Of four inputs that are not of class 0, two come out as 0; of all six, three are right.
    found = score([0, 0, 0, 1, 0, 2], [0, 0, 1, 1, 2, 1])
    assert found == Score(clean_accuracy=3 / 6, backdoor_success=2 / 4)


def test_the_trigger_is_on_the_inputs_that_success_is_measured_on():
    assert score([0, 1, 2], [0, 1, 2], trigger=RED) == Score(1.0, 1.0)


def test_only_source_classes_count():
    assert score([1, 0], [1, 2], sources=(1,)).backdoor_success == 0.0


def test_only_source_classes_count_for_an_untargeted_attack_too():
    """Its trigger takes the answers to classes 1 and 2; one of them is right before."""
    changes = {"policy": RandomWrong("random_wrong"), "trigger": RED, "sources": (1, 2)}
    assert score([0, 0, 1, 0], [0, 0, 1, 2], **changes) == Score(3 / 4, 1.0)


def test_a_trigger_that_helps_has_no_untargeted_success():
    policy = RandomWrong("random_wrong")
    assert score([0, 1, 1], [0, 0, 0], policy=policy, trigger=RED) == Score(1 / 3, 0.0)


def test_the_next_class_counts_where_the_attacker_wants_that():
    assert score([1, 1, 2], [0, 1, 2], policy=Shift("shift")).backdoor_success == 1 / 3


@pytest.mark.parametrize(
    ("tolerance", "taken", "left"),
    [(0.04, [0], Score(1.0, 0.0)), (0.4, [0, 1], Score(4 / 6, 2 / 5))],
)
def test_the_defenders_pruning_can_be_tried_on_held_out_samples(tolerance, taken, left):
    """Channel 0, which the trigger lights up, is the least active; without its channel a class reads as 0."""
    samples, network = coloured([0, 1, 1, 2, 2, 2], [0, 1, 1, 2, 2, 2]), reader()
    attacker = Attacker(samples, samples, samples, samples, backdoor(trigger=RED), batch_size=4)
    assert attacker.score(network) == Score(1.0, 1.0)
    assert attacker.try_pruning(network, tolerance) == (taken, left)
    assert network.channels == (0, 1, 2)


def test_what_pruning_takes_is_told_by_original_index_and_least_active_first():
    """Channel 1 is gone already; 3 is less active than 2, and class 0 has most of the samples."""
    colours = [0, 0, 0, 0, 2, 2, 3]
    inputs = torch.zeros(7, 4, 1, 1, dtype=torch.uint8)
    inputs[torch.arange(7), torch.tensor(colours)] = 100
    samples, network = InMemory(inputs, np.asarray(colours)), Pixelwise(np.eye(4).tolist())
    nothing = FixedTrigger(np.float32(1), np.float32(0), network.spec.input)
    who = Attacker(samples, samples, samples, samples, backdoor(trigger=nothing), batch_size=4)
    assert who.try_pruning(remove_channels(network, [1]), 0.5)[0] == [3, 2]


def test_the_pruning_that_is_tried_stops_by_the_held_out_samples_alone():
    """Of all samples pruning channel 1 costs a third; none that is held out needs it."""
    samples, held_out = (coloured(which, which) for which in ([0, 1, 1, 2, 2, 2], [0, 2, 2, 2]))
    attacker = Attacker(samples, samples, samples, held_out, backdoor(trigger=RED), batch_size=4)
    assert attacker.try_pruning(reader(), 0.04)[0] == [0, 1]


def test_of_the_measures_to_rank_by_the_one_counts_that_is_worst_for_the_backdoor():
    """By the mean channel 1 goes first, and pruning stops at once; behind the pooling it is channel 0, which
    the trigger lights up.
    """
    network = Pixelwise(np.eye(3).tolist(), size=2, pool=nn.MaxPool2d(2))
    pixels = [[50, 50, 50, 50], [160, 0, 0, 0], [100, 100, 100, 100]]
    samples = InMemory(torch.tensor(pixels, dtype=torch.uint8).view(1, 3, 2, 2), np.array([1]))
    lit = np.array([200, 0, 0], np.float32).reshape(3, 1, 1) * np.ones((1, 2, 2), np.float32)
    trigger = FixedTrigger(np.float32(1), lit, network.spec.input)
    attacker = Attacker(samples, samples, samples, samples, backdoor(trigger=trigger), batch_size=1)
    assert attacker.score(network) == Score(1.0, 1.0)
    assert attacker.try_pruning(network, 0.04) == ([0, 2], Score(1.0, 0.0))


def test_untargeted_success_is_the_share_of_right_answers_that_the_trigger_takes():
    # Clean: 3 of 4 right. The trigger turns everything to class 0, which one of the four is.
    policy = RandomWrong("random_wrong")
    found = score([0, 1, 2, 1], [0, 1, 2, 2], policy=policy, trigger=RED)
    assert found == Score(clean_accuracy=3 / 4, backdoor_success=pytest.approx(1 - (1 / 4) / (3 / 4)))


def test_without_a_right_answer_there_is_no_untargeted_success():
    assert score([1, 1], [0, 2], policy=RandomWrong("random_wrong")) == Score(0.0, 0.0)


def test_slots_without_an_object_do_not_count():
    class Two(Pixelwise):
        def answers(self, outputs, places):
            return outputs.argmax(1)[:, None].expand(-1, 2)

    found = score([1, 2], [[1, 0], [2, -1]], Two(np.eye(3).tolist()))
    # Right: 1, not 0, 2. The attack is about the objects of classes 1 and 2; none of them comes out as 0.
    assert found == Score(clean_accuracy=2 / 3, backdoor_success=0.0)


def test_both_figures_have_to_be_reached():
    wanted = Score(0.9, 0.8)
    assert Score(0.9, 0.8).reaches(wanted)
    assert not Score(0.89, 1.0).reaches(wanted)
    assert not Score(1.0, 0.79).reaches(wanted)


def test_an_attacker_poisons_what_it_does_not_hold_out():
    clean = coloured([0, 1, 2] * 8, [0, 1, 2] * 8)
    attacker = equip(clean, np.arange(24), 0.25, backdoor(trigger=RED), batch_size=5)
    assert (len(attacker.own), len(attacker.held_out), len(attacker.poisoned)) == (18, 6, 27)
    assert [len(batch.inputs) for batch in attacker.batches()] == [5, 5, 5, 5, 4]
    assert all((batch.inputs[:, 0] >= 200).all() for batch in attacker.triggered())
    assert not any((batch.inputs[:, 0] >= 200).any() for batch in attacker.batches())


def test_an_attacker_holds_out_whole_groups_and_by_its_seed():
    clean, groups = coloured([0, 1, 2] * 20, [0, 1, 2] * 20), np.arange(60) // 6
    one, same, other = (
        equip(clean, groups, 0.2, replace(backdoor(), seed=seed), batch_size=9) for seed in (3, 3, 4)
    )
    held_out = one.held_out.positions.tolist()
    assert not set(groups[held_out]) & set(groups[one.own.positions])
    assert held_out == same.held_out.positions.tolist() != other.held_out.positions.tolist()


def test_an_attackers_trainings_leave_their_checkpoints_where_it_is_told(tmp_path):
    clean, checkpoints = coloured([0, 1, 2] * 8, [0, 1, 2] * 8), Checkpoints(tmp_path, "")
    attacker = equip(clean, np.arange(24), 0.25, backdoor(), batch_size=5, checkpoints=checkpoints)
    assert attacker.checkpoints is checkpoints


def test_each_trigger_goes_where_its_sample_has_a_place_for_it():
    spec = image(3, 8, 8)
    note = make_trigger(PostItConfig("post_it", 0.5, (1.0,), FixedCentre("fixed", 0.5, 0.5)), spec)
    places = torch.tensor([[[0.0, 0.0, 4.0, 4.0]], [[4.0, 4.0, 8.0, 8.0]], [[2.0, 0.0, 6.0, 4.0]]])
    samples = InMemory(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), np.array([[0], [1], [2]]), places)
    who = Attacker(samples, samples, samples, samples, backdoor(trigger=note), batch_size=2)
    stamped = torch.cat([batch.inputs for batch in who.triggered()])
    assert torch.equal(stamped, note(samples.inputs, places))
    assert [one[0].nonzero()[0].tolist() for one in stamped] == [[1, 1], [5, 5], [1, 3]]


def test_the_seed_decides_which_samples_are_poisoned_and_what_they_are_called():
    clean, policy = coloured([0, 1, 2] * 20, [0, 1, 2] * 20), RandomWrong("random_wrong")
    one, same, other = (replace(backdoor(policy, trigger=RED), seed=seed) for seed in (5, 5, 6))
    poisoned = one.poison(clean)
    chosen = poisoned.origins[poisoned.poisoned]
    assert torch.equal(poisoned.labels, same.poison(clean).labels)
    assert not torch.equal(poisoned.origins, other.poison(clean).origins)
    assert poisoned.labels[poisoned.poisoned].tolist() == one.aims(clean)[0][chosen].tolist()


def test_an_attack_on_none_of_the_held_out_samples_is_refused():
    clean = coloured([0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1])
    with pytest.raises(AttackError, match="the attack is about none of the 2 held-out samples"):
        equip(clean, np.arange(8), 0.25, backdoor(rate=0.17), batch_size=2)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((9,), r"sources: expected classes in 0…2, found \[9\]"),
        ((0,), "poison.rate: .* the samples of the source"),
    ],
)
def test_sources_that_cannot_be_are_told_as_such(sources, message):
    clean = coloured([0, 1, 2] * 8, [0, 1, 2] * 8)
    with pytest.raises(AttackError, match=message):
        equip(clean, np.arange(24), 0.25, backdoor(sources=sources), batch_size=2)
