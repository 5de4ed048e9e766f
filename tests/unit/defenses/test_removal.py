"""What is cut out is what was masked, or nothing is handed on."""

import pytest

from fineprune.defenses import removal
from fineprune.errors import DefenseError
from fineprune.models.surgery import remove_channels
from tests.unit.nets import SMALL, random_inputs, small_network


@pytest.mark.parametrize("architecture", SMALL)
def test_a_surgery_that_takes_another_channel_is_refused(architecture, monkeypatch):
    network = small_network(architecture)
    inputs = random_inputs(network, 16)
    assert removal.remove_and_compare(network, [0], inputs).channels == network.channels[1:]
    monkeypatch.setattr(removal, "remove_channels", lambda one, _: remove_channels(one, [one.channels[1]]))
    with pytest.raises(DefenseError, match="expected the logits of the masked network, found"):
        removal.remove_and_compare(network, [0], inputs)
