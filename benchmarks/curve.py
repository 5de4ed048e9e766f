"""Speed of the whole pruning curve."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from fineprune.attacks.triggers import BlendTrigger, make_trigger
from fineprune.defenses.curve import matches_along_curve
from fineprune.inference import decide, features
from fineprune.models.base import Network
from rig import CLASSES, NETWORKS, Labelled, in_turns, network_of


def bench_curve(name: str, device: torch.device, *, samples: int, few: int) -> dict[str, float]:
    """The whole pruning curve (clean accuracy, backdoor success, robust accuracy at every channel).

    Against one forward pass over the same clean and triggered inputs; and, on ``few`` of them,
    against a full masked evaluation for each point, whose counts must be the same.
    """
    network = network_of(name, device)
    data = Labelled(NETWORKS[name][0], samples, device)
    trigger = make_trigger(BlendTrigger("blend", 0.1, 0), NETWORKS[name][0])
    triggered = trigger(data.inputs)
    order = torch.randperm(len(network.channels), generator=torch.Generator().manual_seed(0)).tolist()
    wanted = torch.stack([(data.labels + 1) % len(CLASSES), data.labels])

    def batches(inputs: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        pieces = zip(inputs.split(64), targets.split(64, dim=-1), strict=True)
        return [(piece, target) for piece, target in pieces]

    @torch.inference_mode()
    def forward() -> None:
        # In the curve's own precision, which is not that of `predict` everywhere.
        for piece in (*data.inputs.split(64), *triggered.split(64)):
            decide(network.head(features(network, piece)))

    def curve(count: int = samples) -> Tensor:
        clean = matches_along_curve(network, order, batches(data.inputs[:count], data.labels[:count]))
        bad = matches_along_curve(network, order, batches(triggered[:count], wanted[:, :count]))
        return torch.cat([clean, bad])

    once, whole = in_turns(forward, curve)
    (small,) = in_turns(lambda: curve(few))
    started = time.perf_counter()
    clean = masked_matches(network, order, data.inputs[:few], data.labels[None, :few])
    bad = masked_matches(network, order, triggered[:few], wanted[:, :few])
    masked = time.perf_counter() - started
    differing = int((torch.cat([clean, bad]) != curve(few)).sum())
    return {
        "curve_over_forward": whole / once,
        "masked_over_curve": masked / small,
        "points": len(order) + 1,
        "differing_counts": differing,
    }


@torch.inference_mode()
def masked_matches(network: Network, order: Sequence[int], inputs: Tensor, targets: Tensor) -> Tensor:
    """The same counts the plain way: a full forward pass for each point, channels set to zero."""
    counts = []
    for pruned in range(len(order) + 1):
        activations = features(network, inputs)
        activations[:, order[:pruned]] = 0
        predictions = network.head(activations).argmax(1)
        counts.append((predictions == targets).sum(1))
    return torch.stack(counts, dim=1).cpu()
