import pytest
import torch

from fineprune.data.batches import SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.inference import features, loss_and_accuracy, outputs, predict
from fineprune.models.base import NOT_FINITE, Step
from tests.unit.nets import SMALL, InMemory, Pixelwise, random_inputs, small_network, write_halves

IDENTITY = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
INPUTS = torch.tensor([[9, 1, 1], [1, 9, 1], [1, 1, 9], [0, 5, 0], [5, 0, 0]], dtype=torch.uint8).view(
    5, 3, 1, 1
)


def samples(labels=(0, 1, 2, 1, 0)):
    return InMemory(INPUTS, labels)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_predictions_come_in_the_order_of_the_samples(batch_size):
    found = predict(Pixelwise(IDENTITY), in_order(samples(), batch_size))
    assert found.tolist() == [0, 1, 2, 1, 0]
    assert found.dtype == torch.int64


def test_a_transform_is_applied_to_the_raw_inputs_first():
    def turn(inputs, places):
        assert inputs.dtype == torch.uint8
        return inputs.roll(1, dims=1)

    assert predict(Pixelwise(IDENTITY), in_order(samples(), 2), turn).tolist() == [1, 2, 0, 2, 1]


def test_a_transform_is_told_the_places_and_what_it_gives_is_what_was_seen():
    places, told = torch.arange(20.0).view(5, 2, 2), []

    def turn(inputs, where):
        told.append(where)
        return inputs.roll(1, dims=1)

    given = in_order(InMemory(INPUTS, [0] * 5, places), 2)
    seen = [batch for _, batch in outputs(Pixelwise(IDENTITY), given, turn)]
    assert torch.equal(torch.cat(told), places)
    assert torch.equal(torch.cat([batch.inputs for batch in seen]), INPUTS.roll(1, dims=1))
    assert torch.equal(torch.cat([batch.places for batch in seen]), places)


def test_a_network_is_asked_about_the_places():
    network, places = Pixelwise(IDENTITY), torch.arange(20.0).view(5, 2, 2)
    network.answers = lambda _, where: where[:, 1, 1].long()
    assert predict(network, in_order(InMemory(INPUTS, [0] * 5, places), 2)).tolist() == [3, 7, 11, 15, 19]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_logit_that_is_no_number_predicts_no_class(value):
    network = Pixelwise(IDENTITY, bias=[0.0, value, 0.0])
    assert predict(network, in_order(samples(), 2)).tolist() == [NOT_FINITE] * 5


@pytest.mark.parametrize("architecture", SMALL)
def test_features_are_fp32_activations_after_the_relu(architecture):
    network = small_network(architecture)
    inputs = random_inputs(network, 3)
    with torch.no_grad():
        found = features(network, inputs)
        assert found.dtype == torch.float32
        assert found.min() >= 0
        torch.testing.assert_close(found, network.features(inputs), rtol=0.02, atol=0.02)


def test_features_are_fp32_where_the_layers_before_ran_in_bf16(monkeypatch):
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)
    network = small_network("digits_cnn")
    inputs = random_inputs(network, 3)
    with torch.no_grad():
        found, exact = features(network, inputs), network.features(inputs)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact), "no autocast happened"
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_predictions_are_in_full_precision_on_every_machine(monkeypatch):
    """As the registered model computes; with 256 and 257, which bf16 cannot tell apart."""
    network, pixel = Pixelwise([[256.0, 0.0, 0.0], [0.0, 257.0, 0.0]]), torch.ones(1, 3, 1, 1).byte()
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)
    assert predict(network, in_order(InMemory(pixel, [1]), 1)).tolist() == [1]


@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_loss_and_accuracy_weigh_every_sample_alike(batch_size):
    network = Pixelwise(IDENTITY)
    given = samples(labels=[0, 1, 2, 0, 0])
    loss, accuracy = loss_and_accuracy(network, in_order(given, batch_size))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(network(INPUTS), given.labels)
    assert accuracy == pytest.approx(0.8)
    assert loss == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("decisions", "accuracy"), [(3, 1 / 3), (0, 0.0)])
def test_accuracy_is_of_all_decisions_and_loss_of_all_samples(decisions, accuracy):
    network = Pixelwise(IDENTITY)
    step = Step(torch.tensor(2.0), torch.tensor(decisions // 3), torch.tensor(decisions))
    network.loss = lambda *_: step
    assert loss_and_accuracy(network, in_order(samples(), 2)) == (2.0, pytest.approx(accuracy))


def test_the_loss_is_in_the_precision_that_is_fast_here_and_keeps_nothing_for_gradients(monkeypatch):
    network, seen = Pixelwise(IDENTITY), []
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)
    network.register_forward_pre_hook(
        lambda *_: seen.append((torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()))
    )
    loss_and_accuracy(network, in_order(samples(), 3))
    assert seen == [(True, True)] * 2


def test_nothing_is_kept_for_gradients():
    network = Pixelwise(IDENTITY)
    assert not any(found.requires_grad for found, _ in outputs(network, in_order(samples(), 5)))
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("cache", [True, False])
def test_a_split_of_a_dataset_is_read_in_order(tmp_path, cache):
    dataset = Dataset(write_halves(tmp_path / "dataset"))
    split = SplitSamples(dataset, "test", torch.device("cpu"), cache=cache)
    inputs = torch.cat([batch.inputs for batch in in_order(split, 3)])
    labels = torch.cat([batch.labels for batch in in_order(split, 3)])
    assert torch.equal(inputs, torch.from_numpy(dataset.inputs(slice(24, 32))))
    assert labels.tolist() == [0, 1] * 4
