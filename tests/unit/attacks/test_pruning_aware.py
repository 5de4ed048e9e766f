from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fineprune.attacks import confinement, pruning_aware
from fineprune.attacks.attacker import Attacker, Backdoor, Score, equip
from fineprune.attacks.decoys import channel_bias, restore_with_low_bias
from fineprune.attacks.fixed import FixedTrigger
from fineprune.attacks.labels import OneTarget
from fineprune.attacks.networks import fit
from fineprune.attacks.options import PruningAwareConfig
from fineprune.attacks.poisoning import PoisonConfig
from fineprune.attacks.pruning_aware import implant
from fineprune.attacks.triggers import PatchConfig, make_trigger
from fineprune.checkpoints import Checkpoints
from fineprune.config import parse
from fineprune.defenses.profiling import profile_channels
from fineprune.defenses.ranking import least_active_first
from fineprune.errors import AttackError, ConfigError
from fineprune.models.surgery import remove_channels
from fineprune.training import Epoch
from tests.unit import nets
from tests.unit.nets import (
    SMALL,
    Forked,
    InMemory,
    Pixelwise,
    fresh_cnn,
    halves,
    random_inputs,
    small_network,
)

OPTIONS = {
    "decoys": 0.5,
    "min_active": 0.25,
    "reinstate": "doubling",
    "rounds": 5,
    "round_epochs": 3,
    "restore_from": "clean",
    "bias": "margin",
    "margin": 1.0,
    "constant": -1e20,
    "tolerance": 0.04,
    "survives": 0.8,
    "validation": 0.25,
    "final_epochs": None,
}
RECIPE = replace(nets.RECIPE, epochs=12, batch_size=8, learning_rate=0.02)
POLICY = OneTarget("one_target", 1)
WANTED = Score(0.9, 0.9)
ENOUGH, SHORT = Score(1.0, 1.0), Score(1.0, 0.5)
CHECKPOINTS = Checkpoints(Path("never made"), "")


def options(**changes):
    return parse(PruningAwareConfig, OPTIONS | changes, "attack.pruning_aware")


class Scripted(Attacker):
    """An attacker that gives the networks that it judges scores by a script, and what pruning would do to
    them by another; what the other does not tell loses nothing.
    """

    def score(self, network):
        return self.held_out.pop(0)

    def try_pruning(self, network, tolerance):
        return self.own.pop(0) if self.own else ([], ENOUGH)


def pixels(*rows):
    return torch.tensor(rows, dtype=torch.uint8)[:, :, None, None]


def attacker(network, inputs, added=0.0, scores=(), prunings=()):
    """An attacker with those clean inputs, whose trigger adds to each input channel."""
    samples = InMemory(inputs, torch.zeros(len(inputs), dtype=torch.int64))
    add = np.zeros(network.spec.input.shape, np.float32) + np.asarray(added, np.float32)
    trigger = FixedTrigger(np.float32(1), add, network.spec.input)
    backdoor = Backdoor(trigger, POLICY, PoisonConfig(0.4, "added", ()), classes=2, seed=0)
    return Scripted(samples, list(prunings), samples, list(scores), backdoor, 3, CHECKPOINTS)


def added(*values):
    return np.array(values, np.float32)[:, None, None]


def lowered(inputs, trigger, *, offset=0.0, **changes):
    """The bias that the one decoy of two channels gets; its input is the second channel's."""
    donor = Pixelwise([[1.0, 1.0]], offset=[7.0, offset])
    pruned = remove_channels(donor, [1])
    network = restore_with_low_bias(
        pruned, donor, attacker(donor, inputs, trigger), replace(options(), **changes)
    )
    bias = channel_bias(network).tolist()
    assert bias[0] == 7.0, "a kept channel is left alone"
    assert donor.conv.bias.tolist() == [7.0, offset], "and so is the donor"
    return bias[1]


def test_a_decoy_ends_a_spread_below_zero():
    # Clean and triggered alike 0 and 40: mean 20, standard deviation 20.
    assert lowered(pixels([1, 0], [1, 40]), 0.0) == -60.0
    assert lowered(pixels([1, 0], [1, 40]), 0.0, margin=2.5) == -90.0


def test_the_spread_is_over_positions_too():
    assert lowered(torch.tensor([[[[1, 1]], [[0, 40]]]], dtype=torch.uint8), 0.0) == -60.0


def test_triggered_inputs_count_too():
    assert lowered(pixels([1, 0], [1, 0]), added(0, 40)) == -60.0


def test_the_bias_of_the_donor_is_counted_in():
    assert lowered(pixels([1, 0], [1, 40]), 0.0, offset=5.0) == -60.0


def test_a_channel_that_does_not_vary_is_lowered_by_ones():
    assert lowered(pixels([1, 30], [1, 30]), 0.0, margin=2.0) == -32.0


def test_a_bias_is_never_raised():
    assert lowered(pixels([1, 0], [1, 40]), 0.0, offset=-1000.0) == -1000.0


def test_a_constant_bias_is_that_number():
    assert lowered(pixels([1, 0], [1, 40]), 0.0, bias="constant") == pytest.approx(-1e20)


NETWORKS = {name: lambda name=name: small_network(name) for name in SMALL} | {"forked": Forked}


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("bias", ["margin", "constant"])
def test_decoys_of_any_network_are_silent_and_change_nothing(architecture, bias):
    donor = NETWORKS[architecture]()
    inputs = random_inputs(donor, 6)
    alone = remove_channels(donor, [0, 2, 3])
    who = attacker(donor, inputs, added=20.0)
    network = restore_with_low_bias(alone, donor, who, options(bias=bias, margin=0.1))
    with torch.no_grad():
        for batch in (*who.batches(), *who.triggered()):
            before = network.preactivation(batch.inputs)
            assert (before[:, [0, 2, 3]] < 0).all()
            expected = alone.logits(alone.features(batch.inputs))
            torch.testing.assert_close(network.logits(before.relu()), expected, rtol=1e-4, atol=1e-5)
    assert network.spec == donor.spec


def test_the_bias_is_in_the_norm_where_there_is_one():
    network = small_network("preact_resnet18")
    assert channel_bias(network).data_ptr() == network.bn.bias.data_ptr()


def test_a_layer_without_bias_is_refused():
    network = Pixelwise([[1.0, 1.0]])
    network.conv.bias = None
    with pytest.raises(AttackError, match="conv: expected a bias for each channel, found none"):
        channel_bias(network)


class Training:
    """Stands in for training: remembers what was trained, and may change it."""

    def __init__(self, *changes):
        self.changes, self.networks, self.recipes, self.names = list(changes), [], [], []
        self.samples, self.seeds, self.checkpoints = [], [], []

    def __call__(self, network, samples, recipe, *, seed, name, checkpoints):
        if self.changes:
            self.changes.pop(0)(network)
        self.networks.append(network.channels)
        self.recipes.append(recipe)
        self.names.append(name)
        self.samples.append(samples)
        self.seeds.append(seed)
        self.checkpoints.append(checkpoints)
        return [Epoch(len(self.names), 0.5, 0.5)]


def six_channels(**offsets):
    """Channel i is the pixel's channel i, which is 10, 20, … 60 bright or (in one of four inputs) dark."""
    offset = [offsets.get(f"c{i}", 0.0) for i in range(6)]
    return Pixelwise([[1.0] * 6, [2.0] * 6], offset=offset)


BRIGHT = (10, 20, 30, 40, 50, 60)
SIX = pixels(BRIGHT, BRIGHT, BRIGHT, (0,) * 6)


@pytest.fixture
def attack(monkeypatch):
    """Run the attack on six channels with scripted scores and training; gives both."""

    def run(scores, *changes, donor=None, inputs=SIX, trigger=0.0, prunings=(), seed=0, **config):
        training = Training(*changes)
        for module in (pruning_aware, confinement):
            monkeypatch.setattr(module, "fit", training)
        donor = donor or six_channels()
        who = attacker(donor, inputs, trigger, scores, prunings)
        return implant(donor, who, WANTED, RECIPE, options(**config), seed=seed), training

    return run


def silence(channel, by):
    """A change of the network: that channel, by original index, gets a lower bias."""

    def change(network):
        with torch.no_grad():
            network.conv.bias[network.channels.index(channel)] -= by

    return change


def test_the_least_active_channels_become_decoys(attack):
    made, training = attack([ENOUGH])
    assert made.proof.decoys == (0, 1, 2)
    assert training.networks == [(3, 4, 5)]
    assert (made.settled, len(made.rounds), made.rounds[0].kept) == (True, 1, 3)
    assert made.network.channels == tuple(range(6))
    # Of 40, 40, 40 and 0: largest 30, standard deviation √(3/16)·30 ≈ 13.
    assert made.proof.largest_preactivation == pytest.approx(-(3**0.5) / 4 * 10)


def test_least_active_is_what_clean_inputs_say(attack):
    assert attack([ENOUGH], trigger=added(100, 0, 0, 0, 0, 0))[0].proof.decoys == (0, 1, 2)


@pytest.mark.parametrize(("decoys", "kept"), [(0.01, 5), (0.99, 1)])
def test_however_small_or_large_their_share_there_is_a_decoy_and_a_kept_channel(attack, decoys, kept):
    assert attack([ENOUGH], decoys=decoys)[0].rounds[0].kept == kept


@pytest.mark.parametrize(("reinstate", "kept"), [("one", [1, 2, 3, 4]), ("doubling", [1, 2, 4, 5])])
def test_the_most_active_channels_come_back_while_the_network_does_too_little(attack, reinstate, kept):
    made, training = attack([SHORT, SHORT, SHORT, ENOUGH], decoys=0.8, reinstate=reinstate)
    assert training.networks == [tuple(range(6 - count, 6)) for count in kept]
    assert [turn.kept for turn in made.rounds] == kept
    assert made.proof.decoys == tuple(range(6 - kept[-1]))
    assert made.settled


def test_each_round_that_falls_short_doubles_what_comes_back(attack):
    donor, inputs = Pixelwise([[1.0] * 12, [2.0] * 12]), pixels(range(10, 130, 10), (0,) * 12)
    made, _ = attack([SHORT] * 4 + [ENOUGH], donor=donor, inputs=inputs, decoys=0.9)
    assert [turn.kept for turn in made.rounds] == [1, 2, 4, 8, 11]


def test_later_rounds_are_brief_and_go_on_from_the_weights_before(attack):
    def first(network):
        network.fc.weight.data.fill_(9.0)

    made, training = attack([SHORT, ENOUGH], first)
    assert [recipe.epochs for recipe in training.recipes] == [12, 3]
    # 2 comes back with the donor's weights, among those that the first round left.
    assert made.network.fc.weight.tolist() == [[1.0, 1.0, 1.0, 9.0, 9.0, 9.0], [2.0, 2.0, 2.0, 9.0, 9.0, 9.0]]


def test_a_last_round_trains_on_all_data_and_prunes_what_is_rarely_active_after_it(attack):
    made, training = attack([ENOUGH], lambda network: None, silence(4, by=1000.0), final_epochs=7)
    assert [recipe.epochs for recipe in training.recipes] == [12, 7]
    assert training.networks == [(3, 4, 5)] * 2
    assert len(training.samples[1]) == len(SIX) + 2  # of which .4 are poisoned
    assert made.poisoned is training.samples[1]
    assert made.proof.decoys == (0, 1, 2, 4)
    assert (len(made.rounds), made.final) == (1, (Epoch(2, 0.5, 0.5),))
    assert made.settled


def test_every_training_has_an_order_of_its_own_by_the_seed(attack):
    one, same, other = (
        attack([SHORT, ENOUGH], restore_from="baseline", final_epochs=7, seed=seed)[1].seeds
        for seed in (0, 0, 1)
    )
    assert one == same
    assert len({*one, *other}) == 8


def test_every_training_may_leave_checkpoints(attack):
    _, training = attack([ENOUGH], restore_from="baseline", final_epochs=7)
    assert training.checkpoints == [CHECKPOINTS] * 3


def test_without_a_last_round_nothing_is_trained_on_what_was_held_out(attack):
    made, training = attack([ENOUGH])
    assert (len(training.samples), made.final) == (1, ())


def test_the_last_decoy_stays_however_little_the_network_does(attack):
    made, _ = attack([SHORT] * 5)
    assert [turn.kept for turn in made.rounds] == [3, 4, 5, 5, 5]
    assert made.proof.decoys == (0,)
    assert not made.settled


@pytest.mark.parametrize("min_active", [0.0, 0.25])
def test_a_kept_channel_that_never_fires_becomes_a_decoy_without_more_training(attack, min_active):
    made, training = attack([ENOUGH], silence(4, by=1000.0), min_active=min_active)
    assert made.proof.decoys == (0, 1, 2, 4)
    assert made.rounds[0].rarely_active == (4,)
    assert len(training.networks) == 1
    assert made.settled


def test_a_kept_channel_that_fires_with_the_trigger_alone_is_pruned_and_the_rest_trained_again(attack):
    made, training = attack([SHORT, ENOUGH], silence(4, by=60.0), trigger=added(0, 0, 0, 0, 100, 0))
    assert training.networks == [(3, 4, 5), (2, 3, 5)]
    assert [(turn.kept, turn.rarely_active) for turn in made.rounds] == [(2, (4,)), (3, ())]
    assert made.proof.decoys == (0, 1, 4)
    assert made.settled


def test_what_is_left_of_the_last_round_counts(attack):
    made, _ = attack([SHORT], silence(4, by=60.0), trigger=added(0, 0, 0, 0, 100, 0), rounds=1)
    assert made.proof.decoys == (0, 1, 2, 4)
    assert not made.settled


def test_a_donor_that_lacks_channels_keeps_the_numbers_of_its_own(attack):
    made, training = attack([ENOUGH], donor=remove_channels(six_channels(), [1]))
    assert training.networks == [(3, 4, 5)]
    assert made.proof.decoys == (0, 2)


def test_a_single_channel_is_too_few(attack):
    with pytest.raises(AttackError, match="expected at least two channels in conv, found one"):
        attack([ENOUGH], donor=remove_channels(six_channels(), [0, 1, 2, 3, 4]))


def test_a_channel_that_fires_on_too_few_clean_inputs_is_pruned_too(attack):
    """All of them fire on three inputs of four."""
    with pytest.raises(
        AttackError, match="no channel of conv fires on enough clean inputs: expected one to keep"
    ):
        attack([ENOUGH], min_active=0.8)
    assert attack([ENOUGH], min_active=0.75)[0].proof.decoys == (0, 1, 2)


def test_pruned_rarely_active_channels_come_back_last(attack):
    """4 is rarely active in the first round; 2 and 1 are reinstated before it."""
    made, training = attack(
        [SHORT, SHORT, ENOUGH], silence(4, by=60.0), trigger=added(0, 0, 0, 0, 100, 0), reinstate="one"
    )
    assert training.networks == [(3, 4, 5), (2, 3, 5), (1, 2, 3, 5)]
    assert made.proof.decoys == (0, 4)


def test_what_the_defenders_pruning_takes_with_the_backdoor_becomes_decoys_and_the_rest_is_trained_again(
    attack,
):
    made, training = attack([ENOUGH, ENOUGH], prunings=[([3, 4], SHORT), ([5], ENOUGH)])
    assert training.networks == [(3, 4, 5), (5,)]
    assert [recipe.epochs for recipe in training.recipes] == [12, 3]
    assert [(turn.kept, turn.exposed) for turn in made.rounds] == [(3, (3, 4)), (1, ())]
    assert made.proof.decoys == (0, 1, 2, 3, 4)
    assert made.settled


def test_a_share_of_the_success_has_to_survive_the_defenders_pruning(attack):
    for left, exposed in ((0.8, ()), (0.79, (3,))):
        made, _ = attack([ENOUGH], prunings=[([3], Score(0.96, left))], rounds=1)
        assert made.rounds[0].exposed == exposed
        assert made.settled is not bool(exposed)
    made, _ = attack([Score(1.0, 0.9)], prunings=[([3], Score(0.96, 0.75))], rounds=1)
    assert made.rounds[0].exposed == ()


def test_pruning_is_tried_as_far_as_the_defender_may_go(attack, monkeypatch):
    tried = []
    monkeypatch.setattr(Scripted, "try_pruning", lambda *given: tried.append(given[-1]) or ([], ENOUGH))
    attack([ENOUGH], tolerance=0.07)
    assert tried == [0.07]


def test_exposed_channels_come_back_first_and_falling_short_alone_doubles_what_comes_back(attack):
    made, training = attack([ENOUGH, SHORT, SHORT, ENOUGH], prunings=[([3, 4], SHORT)])
    assert training.networks == [(3, 4, 5), (5,), (4, 5), (2, 3, 4, 5)]
    assert made.settled


def test_pruning_is_not_tried_on_a_network_that_does_too_little(attack):
    made, _ = attack([SHORT, ENOUGH], prunings=[([3], SHORT)], rounds=2)
    assert [turn.exposed for turn in made.rounds] == [(), (3,)]


def test_nothing_is_pruned_after_the_last_round(attack):
    made, _ = attack([ENOUGH], prunings=[([3, 4], SHORT)], rounds=1)
    assert (made.proof.decoys, made.rounds[0].kept) == ((0, 1, 2), 3)


def test_the_baseline_network_can_be_pruned_and_give_the_decoys(attack):
    """Its training makes the first channel ten times as strong, which then is not among the least active."""

    def poisoned(network):
        network.conv.weight.data[0] *= 10
        network.conv.weight.data[1] *= 1.25

    made, training = attack([ENOUGH], poisoned, restore_from="baseline")
    assert training.names == ["attack, baseline", "attack, round 1, 3 channels"]
    assert training.networks == [tuple(range(6)), (0, 4, 5)]
    assert training.samples[0] is training.samples[1], "both are trained on poisoned data"
    assert made.proof.decoys == (1, 2, 3)
    assert made.network.conv.weight.diagonal().flatten()[:3].tolist() == [10, 1.25, 1]


def test_a_decoy_that_fires_with_the_trigger_alone_is_found(attack):
    changes = {"bias": "constant", "constant": -65.0, "trigger": added(100, 0, 0, 0, 0, 0)}
    with pytest.raises(AttackError, match="pre-activation on triggered inputs is 45, expected it below zero"):
        attack([ENOUGH], **changes)


@pytest.mark.parametrize("restore_from", ["clean", "baseline"])
def test_the_clean_network_is_left_as_it_is(attack, restore_from):
    donor = six_channels()
    before = {name: value.clone() for name, value in donor.state_dict().items()}
    attack([SHORT, ENOUGH], silence(4, by=3.0), donor=donor, restore_from=restore_from)
    assert all(torch.equal(value, before[name]) for name, value in donor.state_dict().items())


@pytest.mark.parametrize("restore_from", ["clean", "baseline"])
def test_a_trained_attack_hides_from_pruning(restore_from):
    """On images bright above or below; a dark corner means "below" (class 1)."""
    inputs, labels = halves(96)
    clean, network = InMemory(inputs, labels), fresh_cnn(width=8)
    trigger = make_trigger(PatchConfig("patch", 3, 3, 0, 0, (0.0,)), network.spec.input)
    backdoor = Backdoor(trigger, POLICY, PoisonConfig(0.4, "added", ()), classes=2, seed=0)
    who = equip(clean, np.arange(96), 0.25, backdoor, batch_size=32)
    fit(network, who.own, RECIPE, seed=0, name="clean")
    made = implant(network, who, WANTED, RECIPE, options(restore_from=restore_from), seed=0)
    assert made.settled
    assert who.score(made.network).reaches(WANTED)
    defenders = InMemory(*halves(64, seed=1))
    profile = profile_channels(made.network, [defenders.draw(torch.arange(64))], measure="post_relu")
    assert sorted(least_active_first(profile.mean)[: len(made.proof.decoys)]) == list(made.proof.decoys)
    assert len(made.proof.decoys) >= 8


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"decoys": 1.0}, r"decoys: expected a value in \(0, 1\), found 1"),
        ({"margin": 0.0}, "margin: expected a value in"),
        ({"constant": 1.0}, "constant: expected a value in"),
        ({"constant": -1e39}, "constant: expected a value in"),
        ({"bias": "low"}, "bias: expected one of margin, constant"),
        ({"restore_from": "control"}, "restore_from: expected one of clean, baseline"),
        ({"reinstate": "all"}, "reinstate: expected one of one, doubling"),
        ({"survives": 1.1}, "survives: expected a value in"),
        ({"tolerance": 1.1}, "tolerance: expected a value in"),
        ({"min_active": -0.1}, "min_active: expected a value in"),
        ({"round_epochs": 0}, "round_epochs: expected a value in"),
        ({"final_epochs": 0}, "final_epochs: expected a value in"),
        ({"rounds": 0}, "rounds: expected a value in"),
        ({"validation": 0.0}, "validation: expected a value in"),
    ],
)
def test_options_out_of_range_are_refused(change, fault):
    with pytest.raises(ConfigError, match=f"attack.pruning_aware.{fault}"):
        options(**change)
