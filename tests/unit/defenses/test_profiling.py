import dataclasses

import pytest
import torch
from torch import nn

from fineprune.defenses.profiling import CARD, load_profile, profile_channels, save_profile
from fineprune.errors import DefenseError
from fineprune.files import read_json, write_json
from fineprune.models.surgery import remove_channels
from tests.unit.nets import SMALL, Forked, Pixelwise, random_inputs, small_network

DIGEST = "d" * 64


def batches(inputs, size=2):
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in inputs.split(size)]


def pixels(*rows, size=1):
    return torch.tensor(rows, dtype=torch.uint8).view(len(rows), -1, size, size)


def test_a_profile_by_hand():
    """Channel 1 is dormant by its offset, channel 2 fires on one input of four."""
    network = Pixelwise([[1.0, 1.0, 1.0]], offset=[0.0, -1000.0, -10.0])
    inputs = pixels([1, 255, 0], [2, 0, 10], [3, 100, 18], [6, 0, 5])
    profile = profile_channels(network, batches(inputs), measure="post_relu")
    assert profile.mean == (3.0, 0.0, 2.0)
    assert profile.maximum == (6.0, -745.0, 8.0)
    assert profile.dormant == (0.0, 1.0, 0.75)
    assert (profile.samples, profile.channels, profile.layer) == (4, (0, 1, 2), "conv")
    assert profile.measure == "post_relu"


def test_an_input_counts_as_dormant_only_if_no_position_fires():
    network = Pixelwise([[1.0] * 4], offset=[-10.0], size=2)
    inputs = pixels([0, 0, 0, 18], [10, 10, 10, 10], size=2)
    profile = profile_channels(network, batches(inputs), measure="post_relu")
    assert (profile.mean, profile.maximum, profile.dormant) == ((1.0,), (8.0,), (0.5,))


def test_post_pool_averages_what_the_pooling_lets_through():
    network = Pixelwise([[1.0, 1.0]], offset=[0.0, 0.0], size=2, pool=nn.MaxPool2d(2))
    inputs = pixels([0, 0, 0, 8, 4, 4, 4, 4], [2, 0, 0, 0, 4, 4, 4, 4], size=2)
    relu, pool = (
        profile_channels(network, batches(inputs), measure=measure) for measure in ("post_relu", "post_pool")
    )
    assert relu.mean == (1.25, 4.0)
    assert pool.mean == (5.0, 4.0)
    assert relu.maximum == pool.maximum == (8.0, 4.0)
    assert relu.dormant == pool.dormant


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.parametrize("measure", ["post_relu", "post_pool"])
def test_a_profile_is_what_one_big_batch_says(architecture, measure):
    network = small_network(architecture)
    inputs = random_inputs(network, 20)
    with torch.no_grad():
        before, active = network.preactivation(inputs), network.features(inputs)
        if measure == "post_pool":
            active = network.pooling()(active)
    expected = active.flatten(2).mean(2).double().mean(0)
    peaks = before.flatten(2).amax(2)
    profile = profile_channels(network, batches(inputs, 7), measure=measure)
    assert profile.mean == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-6)
    assert profile.maximum == pytest.approx(peaks.amax(0).tolist(), rel=1e-4, abs=1e-5)
    assert profile.dormant == pytest.approx((peaks <= 0).double().mean(0).tolist())


def test_a_pruned_networks_profile_keeps_the_original_indices():
    network = remove_channels(Pixelwise([[1.0, 1.0, 1.0]]), [1])
    profile = profile_channels(network, batches(pixels([7, 8, 9])), measure="post_relu")
    assert (profile.channels, profile.mean) == ((0, 2), (7.0, 9.0))


def test_no_inputs_are_refused():
    with pytest.raises(DefenseError, match="expected clean inputs of the defender, found none"):
        profile_channels(Pixelwise([[1.0]]), [], measure="post_relu")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_activations_that_are_no_numbers_are_refused(value):
    network = Pixelwise([[1.0, 1.0]], offset=[0.0, value])
    with pytest.raises(DefenseError, match="activations of conv are NaN or infinite"):
        profile_channels(network, batches(pixels([1, 2])), measure="post_relu")


def test_finite_weights_whose_sums_overflow_are_refused():
    network = Pixelwise([[1.0, 1.0]])
    with torch.no_grad():
        network.conv.weight[1] = -3e38
    with pytest.raises(DefenseError, match="activations of conv are NaN or infinite"):
        profile_channels(network, batches(pixels([1, 2])), measure="post_relu")


def test_finite_activations_whose_mean_overflows_are_refused():
    network = Pixelwise([[1.0] * 8], offset=[0.0, 0.0], size=2)
    with torch.no_grad():
        network.conv.weight[1, 1] = 1e38
    inputs = torch.full((1, 2, 2, 2), 2, dtype=torch.uint8)
    assert network.preactivation(inputs).isfinite().all()
    with pytest.raises(DefenseError, match="activations of conv are NaN or infinite"):
        profile_channels(network, batches(inputs), measure="post_relu")


def test_activations_are_in_the_precision_that_is_fast_here_and_averaged_in_full(monkeypatch):
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)
    network = Pixelwise([[1.0] * 4], offset=[0.0], size=2)
    inputs = pixels([255, 255, 254, 254], size=2)
    for weight in (1.0, 1 + 2**-10):  # which is one in bf16, as 254.5 is not
        network.conv.weight.data.fill_(weight)
        profile = profile_channels(network, batches(inputs), measure="post_relu")
        assert (profile.mean, profile.maximum) == ((254.5,), (255.0,))


def test_the_mean_over_inputs_does_not_round():
    network = Pixelwise([[1.0]])
    network.conv.weight.data.fill_(0.1)
    profile = profile_channels(network, batches(pixels(*[[1]] * 7)), measure="post_relu")
    assert profile.mean == (torch.tensor(0.1).item(),)


def test_post_pool_needs_a_pooling():
    network = Forked()
    with pytest.raises(DefenseError, match="post_pool needs pooling behind conv3, found none"):
        profile_channels(network, batches(random_inputs(network, 2)), measure="post_pool")


@pytest.fixture
def network():
    return Pixelwise([[1.0, 1.0, 1.0]])


@pytest.fixture
def folder(tmp_path, network):
    profile = profile_channels(network, batches(pixels([1, 2, 3])), measure="post_relu")
    save_profile(tmp_path / "profile", profile, model=DIGEST)
    return tmp_path / "profile"


def test_a_profile_comes_back_as_it_was_saved(tmp_path, network):
    profile = profile_channels(network, batches(pixels([1, 2, 3])), measure="post_relu")
    profile = dataclasses.replace(profile, mean=(0.1, 1 / 3, 1e-30))
    save_profile(tmp_path / "profile", profile, model=DIGEST)
    assert load_profile(tmp_path / "profile", network=network, model=DIGEST) == profile


def test_a_profile_of_another_model_is_refused(folder, network):
    with pytest.raises(DefenseError, match="expected a profile of model eeeeeeeeeeeeeeee…, found of dddd"):
        load_profile(folder, network=network, model="e" * 64)


def test_a_profile_of_other_channels_is_refused(folder, network):
    with pytest.raises(DefenseError, match="does not list the 2 channels of conv"):
        load_profile(folder, network=remove_channels(network, [0]), model=DIGEST)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"mean": [1.0, 2.0]}, "does not list the 3 channels"),
        ({"mean": [1.0, None, 3.0]}, r"profile\.mean\[1\]: expected a finite number"),
        ({"measure": "median"}, r"profile\.measure: expected one of post_relu, post_pool"),
        ({"extra": 1}, r"profile\.extra: unknown key"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(folder, network, changes, message):
    write_json(folder / CARD, read_json(folder / CARD) | changes)
    with pytest.raises(DefenseError, match=message):
        load_profile(folder, network=network, model=DIGEST)


def test_a_missing_profile_is_refused(tmp_path, network):
    with pytest.raises(DefenseError, match="cannot read: No such file"):
        load_profile(tmp_path, network=network, model=DIGEST)
