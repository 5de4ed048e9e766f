"""Networks for a dataset."""

from dataclasses import replace

import pytest
import torch

from fineprune.attacks import networks
from fineprune.attacks.networks import ModelConfig, fit, new_network
from fineprune.checkpoints import Checkpoints
from fineprune.data.format import Dataset
from fineprune.errors import ConfigError, ModelError
from fineprune.models import ARCHITECTURES
from tests.unit.nets import RECIPE, InMemory, fresh_cnn, halves, write_halves


def test_a_network_for_another_task_is_refused(tmp_path):
    card = replace(Dataset(write_halves(tmp_path / "dataset")).card, task="detection")
    with pytest.raises(
        ModelError, match="digits_cnn: made for classification, found dataset halves with detec"
    ):
        new_network(ModelConfig("digits_cnn", {"width": 4}), card, torch.device("cpu"), seed=0)


def test_a_network_is_made_for_its_dataset_with_weights_by_the_seed(tmp_path):
    card = replace(Dataset(write_halves(tmp_path / "dataset")).card, mean=(7.0,), std=(9.0,))
    config, device = ModelConfig("digits_cnn", {"width": 4}), torch.device("cpu")
    made = [new_network(config, card, device, seed=seed) for seed in (3, 3, 4)]
    spec = made[0].spec
    assert (spec.classes, spec.mean, spec.std) == (("above", "below"), (7.0,), (9.0,))
    one, same, other = (next(network.parameters()) for network in made)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_order_of_training_follows_the_seed():
    orders = []
    for seed in (3, 3, 4):
        samples = InMemory(*halves(16))
        fit(fresh_cnn(), samples, RECIPE, seed=seed, name="one")
        orders.append(samples.drawn)
    assert orders[0] == orders[1] != orders[2]


def test_a_training_goes_on_from_its_own_checkpoint_and_no_other(tmp_path, monkeypatch):
    checkpoints, samples, told = Checkpoints(tmp_path / "kept", ""), InMemory(*halves(16)), []
    monkeypatch.setattr(networks, "progress", lambda left, **bar: told.append(bar) or left)

    def batches(recipe=RECIPE, seed=0, name="one"):
        samples.drawn.clear()
        epochs = fit(fresh_cnn(), samples, recipe, seed=seed, name=name, checkpoints=checkpoints)
        assert [epoch.number for epoch in epochs] == [1, 2]
        return len(samples.drawn)

    assert (batches(), batches()) == (2 * 4, 0)
    assert told == [{"total": 2, "name": "one", "unit": "epoch", "done": done} for done in (0, 2)]
    for changes in ({"seed": 1}, {"name": "other"}, {"recipe": replace(RECIPE, learning_rate=0.01)}):
        assert batches(**changes) == 2 * 4


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("digits_cnn", {"widht": 4}, "model digits_cnn.widht: unknown key; model digits_cnn.width: missing"),
        ("digits_cnn", {"width": 0}, "model digits_cnn.width: expected a value in [1, 1e+09], found 0"),
        ("alexnet", {}, f"model architecture: expected one of {', '.join(ARCHITECTURES)}, found 'alexnet'"),
    ],
)
def test_arguments_that_the_architecture_does_not_take_are_found_before_there_is_a_dataset(
    architecture, arguments, message
):
    with pytest.raises(ConfigError) as error:
        ModelConfig(architecture, arguments)
    assert str(error.value) == message
