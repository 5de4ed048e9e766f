import copy
import dataclasses

import pytest
import torch

from fineprune.data.batches import in_order
from fineprune.defenses import finetuning
from fineprune.defenses.finetuning import EarlyStop, fine_tune
from fineprune.errors import DefenseError
from fineprune.inference import loss_and_accuracy
from fineprune.models.surgery import remove_channels
from tests.unit import nets
from tests.unit.nets import InMemory, fresh_cnn, halves, random_inputs

RECIPE = dataclasses.replace(nets.RECIPE, epochs=6, batch_size=8, schedule="constant")


def data():
    """Clean data to tune on, and early-stop data."""
    return InMemory(*halves(24)), InMemory(*halves(16, seed=1))


def tune(network, *, epochs=6, min_epochs=1, patience=6, samples=None, holdout=None, seed=0):
    """Each epoch's figures, and a copy of the weights that it left."""
    given = data()
    recipe = dataclasses.replace(RECIPE, epochs=epochs)
    stop = EarlyStop(min_epochs=min_epochs, patience=patience)
    found = fine_tune(network, samples or given[0], holdout or given[1], recipe, stop, seed=seed)
    return [(tuned, copy.deepcopy(network.state_dict())) for tuned in found]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def losses(monkeypatch):
    """Let the early-stop loss be what the test says, epoch by epoch."""

    def script(*values):
        left = iter(values)
        monkeypatch.setattr(finetuning, "loss_and_accuracy", lambda network, batches: (next(left), 0.5))

    return script


@pytest.mark.parametrize("best", [1, 3, 6])
def test_the_best_epochs_weights_are_kept_though_later_epochs_changed_them(losses, best):
    losses(*[1.0 if number == best else 2.0 + number for number in range(1, 7)])
    network = fresh_cnn()
    epochs = tune(network)
    assert len(epochs) == 6
    assert [t.epoch.number for t, _ in epochs if t.best][-1] == best
    assert same(network.state_dict(), epochs[best - 1][1])
    for number, (_, weights) in enumerate(epochs, start=1):
        assert same(network.state_dict(), weights) == (number == best)


def test_of_two_equal_epochs_the_first_is_kept(losses):
    losses(2.0, 1.0, 1.0)
    network = fresh_cnn()
    epochs = tune(network, epochs=3)
    assert [t.best for t, _ in epochs] == [True, True, False]
    assert same(network.state_dict(), epochs[1][1])


def test_no_epoch_before_the_first_that_may_be_kept_is_kept(losses):
    losses(0.1, 0.2, 3.0, 2.0)
    network = fresh_cnn()
    epochs = tune(network, epochs=4, min_epochs=3, patience=1)
    assert [t.best for t, _ in epochs] == [False, False, True, True]
    assert same(network.state_dict(), epochs[3][1])


def test_the_last_epoch_may_be_the_first_that_may_be_kept(losses):
    losses(0.1, 0.2)
    network = fresh_cnn()
    epochs = tune(network, epochs=2, min_epochs=2)
    assert [t.best for t, _ in epochs] == [False, True]
    assert same(network.state_dict(), epochs[1][1])


@pytest.mark.parametrize(
    ("values", "patience", "min_epochs", "epochs"),
    [
        ([1, 2, 3, 4, 5, 6], 2, 1, 3),
        ([3, 2, 2.5, 1, 2, 2], 2, 1, 6),
        ([1, 1, 1, 1, 1, 1], 1, 1, 2),
        ([1, 2, 3, 4, 5, 6], 6, 1, 6),
        ([1, 2, 3, 4, 5, 6], 1, 4, 5),
    ],
)
def test_patience_ends_it(losses, values, patience, min_epochs, epochs):
    losses(*values)
    assert len(tune(fresh_cnn(), patience=patience, min_epochs=min_epochs)) == epochs


def test_the_figures_of_the_kept_epoch_are_those_of_the_network():
    network, (_, holdout) = fresh_cnn(), data()
    epochs = tune(network)
    kept = [t for t, _ in epochs if t.best][-1]
    assert (kept.holdout_loss, kept.holdout_accuracy) == loss_and_accuracy(network, in_order(holdout, 8))
    assert kept.holdout_loss == min(t.holdout_loss for t, _ in epochs)
    assert kept.holdout_accuracy > 0.9


def test_early_stop_data_is_never_trained_on():
    samples, holdout = data()
    right = tune(fresh_cnn(), epochs=2, samples=samples, holdout=holdout)
    passes = [number for batch in holdout.drawn for number in batch]
    assert passes == [*range(16)] * 2, "one look in order after each epoch, and no other"
    assert sorted(number for batch in samples.drawn for number in batch) == sorted([*range(24)] * 2)

    upside_down = InMemory(holdout.inputs, 1 - holdout.labels)
    wrong = tune(fresh_cnn(), epochs=2, holdout=upside_down)
    assert same(right[1][1], wrong[1][1]), "its labels do not move a single weight"


def test_pruned_channels_stay_gone():
    network = remove_channels(fresh_cnn(), [0, 2])
    shape = network.conv3.weight.shape
    tune(network, epochs=2)
    assert network.channels == (1, 3)
    assert network.conv3.weight.shape == shape
    assert not network.training
    with torch.no_grad():
        assert network.features(random_inputs(network, 1)).shape[1] == 2


def test_more_epochs_before_the_first_that_may_be_kept_than_there_are_is_refused():
    with pytest.raises(DefenseError, match="expected at most the 2 epochs, found 3"):
        tune(fresh_cnn(), epochs=2, min_epochs=3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_on_the_early_stop_data_that_is_not_finite_is_an_error(losses, value):
    losses(1.0, 2.0, value)  # the last epoch's, which training does not go on from
    with pytest.raises(DefenseError, match=f"the loss on the early-stop data is {value} in epoch 3; lower"):
        tune(fresh_cnn(), epochs=3)


def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    one, other, third = fresh_cnn(), fresh_cnn(), fresh_cnn()
    for network, seed in ((one, 5), (other, 5), (third, 6)):
        tune(network, epochs=2, seed=seed)
    assert same(one.state_dict(), other.state_dict())
    assert not same(one.state_dict(), third.state_dict())
