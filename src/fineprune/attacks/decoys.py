"""Step 4 of the pruning-aware attack: the pruned channels come back and never fire."""

from __future__ import annotations

import torch
from torch import Tensor

from fineprune.attacks.attacker import Attacker
from fineprune.attacks.options import PruningAwareConfig
from fineprune.errors import AttackError
from fineprune.models.base import Network
from fineprune.models.surgery import restore_channels
from fineprune.runtime import place


@torch.no_grad()
def restore_with_low_bias(
    pruned: Network, donor: Network, attacker: Attacker, config: PruningAwareConfig
) -> Network:
    """The pruned network in the donor's shape, with the donor's channels as decoys.

    Args:
        pruned: keeps what it computes.
        donor: the network that it was pruned from.
        attacker: on whose data decoys must not fire.
        config: how biases are lowered.

    Raises:
        AttackError: the layer's channels have no bias.
    """
    network = restore_channels(pruned, donor).eval()
    place(network, donor.device)
    decoys = [i for i, channel in enumerate(network.channels) if channel not in pruned.channels]
    bias = channel_bias(network)
    if config.bias == "constant":
        bias[decoys] = config.constant
    else:
        largest, spread = _preactivations(network, attacker)
        bias[decoys] -= (largest + config.margin * spread).clamp(min=0)[decoys]
    return network


def channel_bias(network: Network) -> Tensor:
    """What is added last to each channel (C,) of the prunable layer: by its norm, else by the convolution.

    Raises:
        AttackError: neither has a bias.
    """
    name = (network.prunable.conv, *network.prunable.norms)[-1]
    bias = network.get_submodule(name).bias
    if not isinstance(bias, Tensor):
        raise AttackError(f"attack.pruning_aware: {name}: expected a bias for each channel, found none")
    return bias.data


def _preactivations(network: Network, attacker: Attacker) -> tuple[Tensor, Tensor]:
    """Largest value and standard deviation (C,) of each channel over inputs and positions.

    A channel that does not vary gets a deviation of 1, so that it can be lowered by a multiple of it.
    """
    channels, device = len(network.channels), network.device
    largest = torch.full((channels,), -torch.inf, device=device)
    total, squares = torch.zeros(2, channels, dtype=torch.float64, device=device)
    count = 0
    for batches in (attacker.batches(), attacker.triggered()):
        for batch in batches:
            values = network.preactivation(batch.inputs).float()
            largest = torch.maximum(largest, values.amax((0, 2, 3)))
            total += values.double().sum((0, 2, 3))
            squares += values.double().square().sum((0, 2, 3))
            count += values[:, 0].numel()
    spread = (squares / count - (total / count).square()).clamp(min=0).sqrt().float()
    return largest, torch.where(spread > 0, spread, 1.0)
