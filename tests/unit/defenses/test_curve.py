import math

import pytest
import torch
from torch import nn

from fineprune.data.batches import Batch
from fineprune.data.format import EMPTY
from fineprune.defenses.curve import BLOCK, SECTIONS, clean_accuracy_along_curve, matches_along_curve
from fineprune.errors import DefenseError
from fineprune.inference import features, predict
from fineprune.models.surgery import remove_channels
from tests.unit.nets import SMALL, Forked, Pixelwise, masked_logits, random_inputs, small_network

INPUTS = 30

NETWORKS = {name: lambda name=name: small_network(name) for name in SMALL} | {"forked": Forked}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def random_order(network, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(network.channels), generator=generator).tolist()


def questions(network, inputs):
    """Three labels for each input: what the network says now, a random class, and nothing."""
    says = predict(network, [Batch(inputs, torch.zeros(len(inputs)))])
    random = torch.randint(0, 3, (len(inputs),), generator=torch.Generator().manual_seed(4))
    return torch.stack([says, random, torch.full_like(says, -1)])


def batches(inputs, targets, size):
    return map(Batch, inputs.split(size), targets.split(size, dim=-1))


def one_by_one(network, order, inputs, targets):
    """The curve by definition: mask, run the head, compare; once for each point."""
    points = []
    for pruned in range(len(order) + 1):
        predictions = masked_logits(network, inputs, order[:pruned]).argmax(1)
        points.append((predictions == targets).sum(1))
    return torch.stack(points, dim=1)


@pytest.mark.parametrize("block", [1, 700, 1 << 22])
def test_every_point_is_a_plain_masked_evaluation(network, monkeypatch, block):
    monkeypatch.setitem(BLOCK, "cpu", block)
    inputs = random_inputs(network, INPUTS)
    order, targets = random_order(network), questions(network, inputs)
    expected = one_by_one(network, order, inputs, targets)
    found = matches_along_curve(network, order, batches(inputs, targets, 8))
    assert torch.equal(found, expected)
    assert found.dtype == torch.int64
    assert found[0, 0] == INPUTS
    assert not found[2].any(), "a target of -1 matches nothing"
    assert len(found[0].unique()) > 3, "a flat curve would prove nothing"


def test_clean_accuracy_is_the_share_of_the_labels_that_are_there(network):
    inputs, order = random_inputs(network, INPUTS), random_order(network)
    labels = questions(network, inputs)[1]
    labels[::3] = EMPTY
    right = one_by_one(network, order, inputs, labels[None])[0]
    found = clean_accuracy_along_curve(network, order, batches(inputs, labels, 8))
    assert found == pytest.approx((right / (labels != EMPTY).sum()).tolist())


def test_in_mixed_precision_every_point_is_a_masked_evaluation_of_the_same_activations(network, monkeypatch):
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)
    inputs = random_inputs(network, INPUTS)
    order, targets = random_order(network), questions(network, inputs)
    mixed = features(network, inputs)
    monkeypatch.setattr(network, "features", lambda _: mixed)
    expected = one_by_one(network, order, inputs, targets)
    found = matches_along_curve(network, order, batches(inputs, targets, INPUTS))
    assert torch.equal(found, expected)


def test_an_exact_curve_is_in_full_precision_on_every_machine(network, monkeypatch):
    inputs = random_inputs(network, INPUTS)
    order, targets = random_order(network), questions(network, inputs)
    expected = one_by_one(network, order, inputs, targets)
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)
    found = matches_along_curve(network, order, batches(inputs, targets, 8), exact=True)
    assert torch.equal(found, expected)


def test_any_other_curve_is_in_the_precision_that_is_fast_here(network, monkeypatch):
    mixed, look = [], type(network).preactivation
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)
    monkeypatch.setattr(
        type(network),
        "preactivation",
        lambda self, x: mixed.append(torch.is_autocast_enabled("cpu")) or look(self, x),
    )
    inputs = random_inputs(network, INPUTS)
    targets = torch.zeros(1, INPUTS, dtype=torch.int64)
    matches_along_curve(network, random_order(network), batches(inputs, targets, 8))
    assert len(mixed) == 4
    assert all(mixed)


def test_a_head_without_a_short_cut_is_not_asked_about_what_is_off_for_good(monkeypatch):
    network = small_network("deep_id")
    head, widths, channels = type(network).head, [], len(network.channels)
    monkeypatch.setattr(type(network), "head", lambda self, x: widths.append(x.shape[1]) or head(self, x))
    questions = batches(random_inputs(network, INPUTS), torch.zeros(1, INPUTS, dtype=torch.int64), 8)
    matches_along_curve(network, random_order(network), questions)
    expected = {channels - channels * part // SECTIONS for part in range(SECTIONS)}
    assert set(widths) == expected


@pytest.mark.parametrize("bias", [-1e9, math.nan])
def test_channels_that_are_silent_or_broken_count_until_they_are_pruned(bias):
    network, order = small_network("deep_id"), [4, 2, 0, 5, 1, 3]
    with torch.no_grad():
        network.conv3.bias[[2, 0, 5]] = bias  # from within one section to within another
    inputs = random_inputs(network, INPUTS)
    targets = torch.randint(0, 3, (2, INPUTS), generator=torch.Generator().manual_seed(4))
    said = [network.answers(masked_logits(network, inputs, order[:gone]), None) for gone in range(7)]
    expected = torch.stack([(answers == targets).sum(1) for answers in said], 1)
    assert torch.equal(matches_along_curve(network, order, batches(inputs, targets, 8)), expected)


def test_the_curve_does_not_depend_on_the_batch_size(network):
    inputs = random_inputs(network, INPUTS)
    order, targets = random_order(network), questions(network, inputs)
    curves = [matches_along_curve(network, order, batches(inputs, targets, size)) for size in (1, 7, INPUTS)]
    assert torch.equal(curves[0], curves[1])
    assert torch.equal(curves[0], curves[2])


def test_every_point_is_what_the_network_says_after_surgery(network):
    inputs = random_inputs(network, INPUTS)
    order, targets = random_order(network), questions(network, inputs)[:1]
    found = matches_along_curve(network, order, batches(inputs, targets, 16))[0]
    for pruned in (1, len(order) // 2, len(order) - 1):
        smaller = remove_channels(network, order[:pruned])
        assert found[pruned] == (predict(smaller, [Batch(inputs, targets[0])]) == targets[0]).sum()


@pytest.mark.parametrize(
    ("architecture", "gone", "points"), [("speech_net", [0, 5, 6], 10), ("deep_id", [0, 2], 5)]
)
def test_a_pruned_network_has_a_curve_of_its_own(architecture, gone, points):
    network = remove_channels(small_network(architecture), gone)
    inputs = random_inputs(network, INPUTS)
    order, targets = random_order(network), questions(network, inputs)
    found = matches_along_curve(network, order, batches(inputs, targets, 8))
    assert found.shape == (3, points)
    assert torch.equal(found, one_by_one(network, order, inputs, targets))


def test_a_curve_by_hand():
    """Channels 0, 1, 2 vote 1, 4, 16 for class 0; class 1 has 10 votes from the start."""
    network = Pixelwise([[1.0, 4.0, 16.0], [0.0, 0.0, 0.0]], bias=[0.0, 10.0])
    inputs = torch.tensor([[1, 1, 1], [3, 2, 0], [0, 3, 0], [0, 0, 0]], dtype=torch.uint8).view(4, 3, 1, 1)
    # Votes for class 0, as channels 0, 1, 2 go:    21 20 16 0 | 11 8 0 0 | 12 12 0 0 | 0 0 0 0
    zeros, ones = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    found = matches_along_curve(network, [0, 1, 2], [Batch(inputs, torch.stack([zeros, ones]))])
    assert found.tolist() == [[3, 2, 1, 0], [1, 2, 3, 4]]
    # In the order 2, 0, 1:                         21 5 4 0 | 11 11 8 0 | 12 12 12 0 | 0 0 0 0
    found = matches_along_curve(network, [2, 0, 1], [Batch(inputs, zeros[None])])
    assert found.tolist() == [[3, 2, 1, 0]]


def test_pooling_and_a_head_without_bias():
    network = Pixelwise(
        [[1.0] * 4 + [0.0] * 4, [0.0] * 4 + [1.0] * 4], offset=[0.0, 0.0], size=4, pool=nn.MaxPool2d(2)
    )
    inputs = torch.zeros(1, 2, 4, 4, dtype=torch.uint8)
    inputs[0, 0, 0, 0], inputs[0, 1, 3, 3] = 9, 5
    ones = torch.ones(1, dtype=torch.int64)
    assert matches_along_curve(network, [0, 1], [Batch(inputs, ones[None])]).tolist() == [[0, 1, 0]]
    assert matches_along_curve(network, [1, 0], [Batch(inputs, ones[None])]).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("order", [[], [0, 1], [0, 1, 1], [0, 1, 3], [0, 1, 2, 3]])
def test_an_order_that_is_not_of_all_channels_is_refused(order):
    with pytest.raises(DefenseError, match="expected each of the 3 channels once"):
        matches_along_curve(Pixelwise([[1.0, 1.0, 1.0]]), order, [])


def test_no_inputs_are_refused():
    with pytest.raises(DefenseError, match="expected inputs, found none"):
        matches_along_curve(Pixelwise([[1.0, 1.0]]), [0, 1], [])
