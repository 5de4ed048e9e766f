import pytest
import torch

from fineprune.attacks.proof import prove
from fineprune.data.batches import Batch
from fineprune.errors import AttackError
from fineprune.models.surgery import remove_channels
from tests.unit.nets import Pixelwise

# Two inputs of three channels.
CLEAN = torch.tensor([[10, 20, 30], [40, 0, 0]], dtype=torch.uint8).view(2, 3, 1, 1)
TRIGGERED = torch.tensor([[10, 50, 30], [40, 50, 0]], dtype=torch.uint8).view(2, 3, 1, 1)


def attacked(*offset):
    """A network of three channels and logits, and the same without its last two."""
    network = Pixelwise(
        [[2.0, 1.0, 1.0], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0]], bias=[0.0, 1.0, 2.0], offset=offset
    )
    return network, remove_channels(network, [1, 2])


def proof(network, pruned):
    labels = torch.zeros(2, dtype=torch.int64)

    def one_by_one(inputs):
        return [Batch(inputs[i : i + 1], labels[i : i + 1]) for i in range(2)]

    return prove(network, pruned, clean=lambda: one_by_one(CLEAN), triggered=lambda: one_by_one(TRIGGERED))


def test_the_figures_of_a_proof():
    found = proof(*attacked(0.0, -60.0, -100.0))
    assert (found.decoys, found.largest_preactivation, found.largest_difference) == ((1, 2), -10.0, 0.0)


def test_a_proof_tells_how_far_rounding_parts_the_networks():
    network, pruned = attacked(0.0, -60.0, -100.0)
    with torch.no_grad():
        pruned.fc.bias[0] += 0.005
    largest = 2.0 * 40  # a logit's, of the second input
    assert proof(network, pruned).largest_difference == pytest.approx(0.005 / largest, rel=1e-3)


def test_the_figures_are_the_largest_of_clean_and_triggered_inputs():
    network = Pixelwise([[-2.0, 1.0], [0.0, 1.0]], offset=[0.0, -60.0])
    pruned, labels = remove_channels(network, [1]), torch.zeros(1, dtype=torch.int64)
    loud, quiet = (
        [Batch(torch.tensor([pixel], dtype=torch.uint8).view(1, 2, 1, 1), labels)]
        for pixel in ([90, 50], [40, 20])
    )
    with torch.no_grad():
        pruned.fc.weight[0, 0] += 0.001
    for clean, triggered in ((loud, quiet), (quiet, loud)):
        found = prove(network, pruned, clean=lambda some=clean: some, triggered=lambda some=triggered: some)
        assert found.largest_preactivation == -10.0
        assert found.largest_difference == pytest.approx(0.09 / 180, rel=1e-2)


@pytest.mark.parametrize(
    ("offsets", "found"),
    [
        ((0.0, -60.0, -29.0), "on clean inputs is 1,"),
        ((0.0, -60.0, -30.0), "on clean inputs is 0,"),
        ((0.0, -45.0, -100.0), "on triggered inputs is 5,"),
    ],
)
def test_a_decoy_that_fires_is_found(offsets, found):
    with pytest.raises(AttackError, match=f"a decoy's largest pre-activation {found} expected it below zero"):
        proof(*attacked(*offsets))


@pytest.mark.parametrize("value", [0.1, float("nan")])
def test_another_network_behind_the_decoys_is_found(value):
    network, pruned = attacked(0.0, -60.0, -100.0)
    with torch.no_grad():
        pruned.fc.weight[0, 0] += value
    with pytest.raises(AttackError, match="with and without decoys the logits of clean inputs differ by"):
        proof(network, pruned)


def test_a_difference_under_the_trigger_alone_is_found():
    network, pruned = attacked(-45.0, -60.0, -100.0)  # the kept channel fires on no input so far
    loud = torch.tensor([[90, 50, 30]], dtype=torch.uint8).view(1, 3, 1, 1)
    with torch.no_grad():
        pruned.fc.weight[0, 0] += 1
    labels = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(AttackError, match="the logits of triggered inputs differ by 45"):
        prove(
            network,
            pruned,
            clean=lambda: [Batch(CLEAN[:1], labels)],
            triggered=lambda: [Batch(loud, labels)],
        )


def test_a_kept_channel_that_is_silent_on_clean_inputs_is_found():
    network, pruned = attacked(-50.0, -60.0, -100.0)
    with pytest.raises(AttackError, match=r"would prune channels \[0\] among the first 2: expected"):
        proof(network, pruned)


def test_even_if_it_is_the_last_to_be_pruned_before_a_decoy():
    network = Pixelwise([[1.0, 1.0, 1.0]], offset=[-60.0, -60.0, -100.0])
    with pytest.raises(AttackError, match=r"would prune channels \[1\] among the first 2: expected"):
        proof(network, remove_channels(network, [0, 2]))


def test_even_if_the_trigger_wakes_it():
    network, pruned = attacked(-50.0, -60.0, -100.0)
    labels = torch.zeros(1, dtype=torch.int64)
    lit = torch.tensor([90, 50, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    with pytest.raises(AttackError, match=r"would prune channels \[0\] among the first 2: expected"):
        prove(
            network,
            pruned,
            clean=lambda: [Batch(CLEAN[:1], labels)],
            triggered=lambda: [Batch(lit, labels)],
        )


def test_decoys_are_known_by_their_original_index():
    network = Pixelwise([[1.0, 1.0, 1.0]], offset=[-60.0, 0.0, -100.0])
    assert proof(network, remove_channels(network, [2, 0])).decoys == (0, 2)
