import dataclasses
import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fineprune.augmentation import augment
from fineprune.config import parse
from fineprune.data.batches import Batch
from fineprune.errors import ConfigError, ModelError
from fineprune.models import build
from fineprune.models.base import Network, Step
from fineprune.training import Recipe, derived_seed, train
from tests.unit.nets import (
    RECIPE,
    SMALL,
    InMemory,
    fresh_cnn,
    halves,
    image,
    questions_of_a_step,
    random_inputs,
    small_network,
    spec_of,
)

IMAGE_KINDS = ["flip", "shift", "zoom", "light", "erase"]


def trained(*, seed=0, count=10, network=None, **changes):
    """A network, its epochs, and the samples that it was trained on."""
    network = network or fresh_cnn()
    samples = InMemory(*halves(count))
    epochs = list(train(network, samples, dataclasses.replace(RECIPE, **changes), seed=seed))
    return network, epochs, samples


def weights(network):
    return torch.cat([part.detach().flatten() for part in network.parameters()]).clone()


def same(one, other):
    ones, others = one.state_dict(), other.state_dict()
    return all(torch.equal(ones[name], others[name]) for name in ones)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    one, other, third = (trained(seed=seed)[0] for seed in (5, 5, 6))
    assert same(one, other)
    assert not same(one, third)


def test_dropout_follows_the_seed_whatever_was_drawn_before():
    inputs = torch.randint(-9000, 9000, (8, 1024), dtype=torch.int16)
    networks = []
    for drawn_before in (0, 17):
        torch.rand(drawn_before)
        networks.append(small_network("speech_net"))
        list(train(networks[-1], InMemory(inputs, torch.arange(8) % 3), RECIPE, seed=1))
    assert same(*networks)


def test_every_seed_and_every_purpose_has_a_seed_of_its_own():
    seeds = [derived_seed(seed, purpose) for seed in range(3) for purpose in ("start", "train")]
    assert len({*seeds, *range(3)}) == 6 + 3
    assert seeds == [derived_seed(seed, purpose) for seed in range(3) for purpose in ("start", "train")]


@pytest.mark.parametrize("seed", [0, 1])
def test_batches_are_augmented_by_a_seed_of_their_own(seed):
    network, given = fresh_cnn(), []
    network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    same_image = Batch(halves(1)[0].expand(8, -1, -1, -1), torch.zeros(8, dtype=torch.int64))
    kinds = ("light", "flip")
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=8, augment=kinds)
    list(train(network, InMemory(same_image.inputs, same_image.labels), recipe, seed=seed))
    generator = torch.Generator().manual_seed(derived_seed(seed, "augment"))
    assert torch.equal(given[0], augment(same_image, kinds, generator, network.spec.input).inputs)


def test_an_augmentation_that_does_not_fit_is_refused_before_anything_is_drawn():
    samples = InMemory(*halves(4))
    with pytest.raises(ConfigError, match=r"for image expected any of .*, found speed"):
        list(train(fresh_cnn(), samples, dataclasses.replace(RECIPE, augment=("speed",)), seed=0))
    assert not samples.drawn


def test_every_sample_is_drawn_once_an_epoch_and_the_last_batch_is_smaller():
    _, epochs, samples = trained(epochs=3)
    assert [len(batch) for batch in samples.drawn] == [4, 4, 2] * 3
    drawn = [number for batch in samples.drawn for number in batch]
    passes = [drawn[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3, "each epoch has its own order"
    assert [epoch.number for epoch in epochs] == [1, 2, 3]


def test_a_single_sample_joins_the_batch_before_it():
    _, epochs, samples = trained(count=9, epochs=2)
    assert [len(batch) for batch in samples.drawn] == [4, 5] * 2
    assert len(epochs) == 2
    _, _, alone = trained(count=3, batch_size=1, epochs=1)
    assert [len(batch) for batch in alone.drawn] == [1, 1, 1]


def test_the_order_is_the_seeds_whatever_the_network_draws():
    class Drawing(Network):
        def __init__(self):
            network = fresh_cnn()
            super().__init__(network.spec)
            self.network = network

        def forward(self, inputs):
            torch.rand(3)
            return self.network(inputs)

    drawn = trained()[2].drawn
    assert drawn == trained(network=Drawing())[2].drawn
    assert drawn == trained(augment=IMAGE_KINDS)[2].drawn


def test_the_smaller_batch_counts_by_its_samples():
    """With a rate too small to move anything, an epoch's figures are those of the fresh network."""
    _, epochs, samples = trained(learning_rate=1e-12, momentum=0.0, epochs=1)
    with torch.no_grad():
        logits = fresh_cnn()(samples.inputs)
    expected = torch.nn.functional.cross_entropy(logits, samples.labels).item()
    assert epochs[0].loss == pytest.approx(expected, rel=1e-5)
    assert epochs[0].accuracy == pytest.approx((logits.argmax(1) == samples.labels).double().mean().item())


@pytest.mark.parametrize(("decisions", "accuracy"), [(6, 0.5), (0, 0.0)])
def test_accuracy_is_of_all_decisions_that_were_taken(decisions, accuracy):
    network = fresh_cnn()
    right, total = torch.tensor(decisions // 2), torch.tensor(decisions)
    network.loss = lambda inputs, *_: Step(network(inputs).sum() * 0, right, total)
    assert [epoch.accuracy for epoch in trained(network=network)[1]] == [accuracy] * 2


@pytest.fixture
def steps():
    """Every step: the optimizer, and its learning rate then."""
    seen = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append((optimizer, optimizer.param_groups[0]["lr"]))
    )
    yield seen
    hook.remove()


def test_cosine_falls_from_the_given_rate_to_zero_over_all_steps(steps):
    trained(epochs=2)
    rates = [rate for _, rate in steps] + [steps[-1][0].param_groups[0]["lr"]]
    assert len(rates) == 2 * 3 + 1
    assert rates[0] == 0.05
    assert rates[3] == pytest.approx(0.025)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_the_rate_rises_before_it_falls(steps):
    trained(epochs=4, warm_up=0.25)  # 12 steps
    rates = [rate / 0.05 for _, rate in steps]
    assert rates[:4] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1.0])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[3:] == pytest.approx([(1 + math.cos(math.pi * step / 9)) / 2 for step in range(9)])


def test_the_rate_may_rise_to_the_last_step(steps):
    trained(epochs=1, warm_up=0.9)  # 3 steps
    assert [rate / 0.05 for _, rate in steps] == pytest.approx([1 / 4, 2 / 4, 3 / 4])


@pytest.mark.parametrize("clip", [1e-3, 1e9])
def test_a_gradient_that_is_too_long_is_shortened(clip):
    """The one step of plain SGD is as long as its rate times the clip, or as it is without one."""
    taken = {}
    for limit in (clip, None):
        network, before = fresh_cnn(), weights(fresh_cnn())
        trained(network=network, count=4, epochs=1, momentum=0.0, schedule="constant", clip=limit)
        taken[limit] = weights(network) - before
    if clip == 1e9:
        assert torch.equal(taken[clip], taken[None])
    else:
        assert float(taken[clip].norm()) == pytest.approx(0.05 * clip, rel=1e-3)
        assert torch.nn.functional.cosine_similarity(taken[clip], taken[None], dim=0) > 0.999


def test_constant_is_constant(steps):
    trained(epochs=2, schedule="constant")
    assert [rate for _, rate in steps] == [0.05] * 6


def test_the_recipe_reaches_the_optimizer(steps):
    trained(optimizer="sgd", momentum=0.8, weight_decay=0.01)
    trained(optimizer="adam", momentum=0.8, weight_decay=0.01)
    sgd, adam = steps[0][0], steps[-1][0]
    assert isinstance(sgd, torch.optim.SGD)
    assert type(adam) is torch.optim.Adam  # AdamW is one too, with another decay
    assert sgd.param_groups[0]["momentum"] == adam.param_groups[0]["betas"][0] == 0.8
    assert sgd.param_groups[0]["weight_decay"] == adam.param_groups[0]["weight_decay"] == 0.01


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.05), ("adam", 0.01)])
def test_a_separable_problem_is_learned(optimizer, rate):
    _, epochs, _ = trained(count=32, epochs=12, optimizer=optimizer, learning_rate=rate)
    assert epochs[-1].accuracy == 1.0
    assert epochs[-1].loss < 0.5 * epochs[0].loss


@pytest.mark.parametrize("architecture", sorted(SMALL))
def test_a_step_waits_for_nothing_on_the_device(architecture):
    network = small_network(architecture)
    kinds = ["shift", "speed", "erase"] if architecture == "speech_net" else IMAGE_KINDS
    labels = torch.arange(8) % 3
    assert questions_of_a_step(network, random_inputs(network, 8), labels, augment=kinds) == 0


def test_a_network_is_in_evaluation_mode_between_epochs():
    network = fresh_cnn()
    for _ in train(network, InMemory(*halves(8)), RECIPE, seed=0):
        assert not network.training


def test_batch_norm_is_trained_in_training_mode():
    network = small_network("preact_resnet18")
    before = network.bn.running_mean.clone()
    inputs = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    list(train(network, InMemory(inputs, torch.arange(8) % 3), RECIPE, seed=0))
    assert not torch.equal(network.bn.running_mean, before)


def test_steps_are_in_the_precision_that_is_fast_here(monkeypatch):
    network, mixed = fresh_cnn(), []
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)
    network.register_forward_pre_hook(lambda *_: mixed.append(torch.is_autocast_enabled("cpu")))
    trained(network=network, epochs=1)
    assert mixed == [True] * 3


def test_weight_decay_pulls_weights_to_zero():
    free, pulled = (trained(weight_decay=decay)[0].conv2.weight.norm() for decay in (0.0, 1.0))
    assert pulled < 0.9 * free


def test_a_loss_that_is_no_number_is_an_error():
    network = fresh_cnn()
    with torch.no_grad():
        network.fc2.bias[0] = float("nan")
    with pytest.raises(ModelError, match="the loss is nan in epoch 1: expected a finite one"):
        trained(network=network)


def test_an_infinite_loss_is_an_error():
    network = fresh_cnn()
    network.loss = lambda inputs, *_: Step(network(inputs).sum() + math.inf, torch.tensor(0), len(inputs))
    with pytest.raises(ModelError, match="the loss is inf in epoch 1: expected a finite one"):
        trained(network=network)


def test_a_batch_that_is_too_small_for_batch_norm_is_an_error():
    network = build(spec_of("preact_resnet18", {"width": 1}, image(3, 8, 8)))
    with pytest.raises(ModelError, match=r"^training: Expected more than 1 value per channel"):
        list(train(network, InMemory(random_inputs(network, 1), [0]), RECIPE, seed=0))


def test_a_rate_that_diverges_is_an_error():
    with pytest.raises(ModelError, match="lower learning_rate"):
        trained(learning_rate=1e30, epochs=3)


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0}, {"schedule": "step"}, {"momentum": 1}],
)
def test_a_recipe_that_cannot_be_is_refused(changes):
    with pytest.raises(ConfigError, match=f"recipe.{next(iter(changes))}: expected"):
        parse(Recipe, dataclasses.asdict(RECIPE) | changes, "recipe")
