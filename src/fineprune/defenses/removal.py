"""Pruned channels are cut out for real, and compared with what masking them gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fineprune.errors import DefenseError
from fineprune.inference import features
from fineprune.models.base import Network
from fineprune.models.surgery import remove_channels


def remove_and_compare(network: Network, positions: Sequence[int], inputs: Tensor) -> Network:
    """The network without some channels; on a batch it says what it says with these set to zero.

    Args:
        network: in evaluation mode.
        positions: of the channels in its prunable layer, from 0; empty leaves the network as it is.
        inputs: raw, (B, *shape).

    Raises:
        DefenseError: the two disagree.
    """
    if not positions:
        return network
    pruned = remove_channels(network, [network.channels[i] for i in positions]).eval()
    with torch.inference_mode():
        masked = features(network, inputs).clone()
        masked[:, positions] = 0
        expected, found = network.logits(masked), pruned.logits(features(pruned, inputs))
    gap = (expected - found).abs().max().item()
    scale = expected.abs().max().item()
    # Another grouping of the sums rounds differently; with bf16 layers before them a little more.
    if not gap <= 0.02 * max(scale, 1.0):
        raise DefenseError(
            f"removal: expected the logits of the masked network, found some that differ by {gap:.3g} of "
            f"{scale:.3g}"
        )
    return pruned
