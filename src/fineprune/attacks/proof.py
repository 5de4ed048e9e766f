"""Proof that a pruning-aware attack did what it is meant to, on the attacker's own data.

The decoys never fire; with them the network computes what it computes without; and whoever prunes
the least active channels first prunes all of them before any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from fineprune.data.batches import Batch
from fineprune.defenses.profiling import profile_channels
from fineprune.defenses.ranking import least_active_first
from fineprune.errors import AttackError
from fineprune.models.base import Network

# Of the largest logit: sums over other numbers of channels round differently, on a GPU in TF32.
TOLERANCE = 5e-3

Pass = Callable[[], Iterable[Batch]]


@dataclass(frozen=True)
class Proof:
    """What the proof found.

    Attributes:
        decoys: the channels that the network has and the pruned one lacks, by original index.
        largest_preactivation: of any decoy on clean and triggered inputs, below zero.
        largest_difference: between a logit with and without the decoys, as a share of the largest
            logit.
    """

    decoys: tuple[int, ...]
    largest_preactivation: float
    largest_difference: float


def prove(network: Network, pruned: Network, *, clean: Pass, triggered: Pass) -> Proof:
    """Check the attack in fp32, and the defender's ranking as the defender computes it.

    Args:
        network: with its decoys, in evaluation mode.
        pruned: the same without them.
        clean: each call gives one pass over the attacker's clean inputs.
        triggered: the same with the trigger on each.

    Raises:
        AttackError: one line that names the first thing that does not hold.
    """
    decoys = [i for i, channel in enumerate(network.channels) if channel not in pruned.channels]
    gap, scale, largest = 0.0, 0.0, -torch.inf
    for kind, batches in (("clean", clean()), ("triggered", triggered())):
        peak, difference, logit = _compare(network, pruned, decoys, batches)
        if not peak < 0:
            raise AttackError(
                f"attack.pruning_aware: a decoy's largest pre-activation on {kind} inputs is {peak:.4g}, "
                f"expected it below zero"
            )
        if not difference <= TOLERANCE * logit:
            raise AttackError(
                f"attack.pruning_aware: with and without decoys the logits of {kind} inputs differ by "
                f"{difference:.3g} of {logit:.3g}: expected the same"
            )
        gap, scale, largest = max(gap, difference), max(scale, logit), max(largest, peak)
    _check_ranking(network, decoys, clean())
    return Proof(tuple(network.channels[i] for i in decoys), largest, gap / max(scale, 1e-12))


@torch.inference_mode()
def _compare(
    network: Network, pruned: Network, decoys: list[int], batches: Iterable[Batch]
) -> tuple[float, float, float]:
    """The decoys' largest pre-activation, the largest difference of a logit, and the largest logit."""
    figures = []
    for batch in batches:
        before = network.preactivation(batch.inputs)
        found = network.logits(torch.relu(before)).float()
        expected = pruned.logits(pruned.features(batch.inputs)).float()
        peak = before[:, decoys].amax().float()
        figures.append(torch.stack([peak, (found - expected).abs().max(), expected.abs().max()]))
    largest = torch.stack(figures).amax(0).tolist()
    return largest[0], largest[1], largest[2]


def _check_ranking(network: Network, decoys: list[int], clean: Iterable[Batch]) -> None:
    """Raise unless the defender prunes the decoys first."""
    profile = profile_channels(network, clean, measure="post_relu")
    first = least_active_first(profile.mean)[: len(decoys)]
    others = [network.channels[i] for i in first if i not in decoys]
    if others:
        raise AttackError(
            f"attack.pruning_aware: the defender would prune channels {others} among the first "
            f"{len(decoys)}: expected the decoys alone; a kept channel is silent on clean inputs"
        )
