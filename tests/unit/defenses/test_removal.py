"""What is cut out is what was masked, or nothing is handed on."""

import contextlib
import math

import pytest
import torch

from fineprune.defenses import removal
from fineprune.errors import DefenseError
from fineprune.models.surgery import remove_channels
from tests.unit.nets import SMALL, Pixelwise, random_inputs, small_network


@pytest.mark.parametrize("architecture", SMALL)
def test_a_surgery_that_takes_another_channel_is_refused(architecture, monkeypatch):
    network = small_network(architecture)
    inputs = random_inputs(network, 16)
    assert removal.remove_and_compare(network, [0], inputs).channels == network.channels[1:]
    monkeypatch.setattr(removal, "remove_channels", lambda one, _: remove_channels(one, [one.channels[1]]))
    with pytest.raises(DefenseError, match="expected the logits of the masked network, found"):
        removal.remove_and_compare(network, [0], inputs)


@pytest.mark.parametrize("architecture", SMALL)
def test_positions_are_those_of_the_channels_that_are_left(architecture):
    network = remove_channels(small_network(architecture), [1, 0])
    removed = removal.remove_and_compare(network, [0, 2], random_inputs(network, 4))
    assert removed.channels == (3, *network.channels[3:])
    assert not any(module.training for module in removed.modules())


def test_where_nothing_is_removed_the_network_stays_as_it_is():
    network = small_network("digits_cnn")
    assert removal.remove_and_compare(network, [], random_inputs(network, 4)) is network


@pytest.mark.parametrize(
    ("largest", "gap", "refused"),
    [(0.1, 0.015, False), (0.1, 0.025, True), (10, 0.15, False), (10, 0.25, True), (10, math.nan, True)],
)
def test_logits_may_differ_by_a_fiftieth_of_the_largest_or_of_one(largest, gap, refused, monkeypatch):
    network = Pixelwise([[largest, 0.0], [0.0, largest]], bias=[0.0, 0.0])

    def cut_and_shift(one, originals):
        pruned = remove_channels(one, originals)
        pruned.fc.bias.data += gap
        return pruned

    monkeypatch.setattr(removal, "remove_channels", cut_and_shift)
    wrong = pytest.raises(DefenseError, match=f"found some that differ by {gap} of {largest}$")
    with wrong if refused else contextlib.nullcontext():
        removal.remove_and_compare(network, [0], torch.ones(1, 2, 1, 1, dtype=torch.uint8))
