"""Speed of the whole pruning curve."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fineprune.attacks.triggers import BlendConfig, make_trigger
from fineprune.data.batches import Batch
from fineprune.defenses.curve import matches_along_curve
from fineprune.inference import features
from fineprune.models.base import Network
from rig import Rows, in_turns


def bench_curve(network: Network, data: Rows, *, few: int, batch_size: int) -> dict[str, float]:
    """The whole pruning curve (clean accuracy, backdoor success, robust accuracy at every channel).

    Against one forward pass over the same clean and triggered inputs; and, on ``few`` of them,
    against a full masked evaluation for each point, whose counts must be the same.
    """
    samples, classes = len(data.inputs), len(network.spec.classes)
    trigger = make_trigger(BlendConfig("blend", 0.1, 0), network.spec.input)
    order = torch.randperm(len(network.channels), generator=torch.Generator().manual_seed(0)).tolist()
    clean = Batch(data.inputs, data.labels[None], data.places)
    wanted = torch.stack([(data.labels + 1) % classes, data.labels])
    triggered = Batch(trigger(data.inputs), wanted, data.places)

    @torch.inference_mode()
    def forward() -> None:
        # In the curve's own precision, which is not that of `predict` everywhere.
        for whole in (clean, triggered):
            for inputs, _, places in pieces(whole, samples, batch_size):
                network.answers(network.head(features(network, inputs)), places)

    def curve(count: int = samples) -> Tensor:
        return torch.cat(
            [
                matches_along_curve(network, order, pieces(whole, count, batch_size))
                for whole in (clean, triggered)
            ]
        )

    once, whole = in_turns(forward, curve)
    (small,) = in_turns(lambda: curve(few))
    started = time.perf_counter()
    plain = [masked_matches(network, order, next(pieces(whole, few, few))) for whole in (clean, triggered)]
    masked = time.perf_counter() - started
    points = len(order) + 1
    return {
        "curve_over_forward": whole / once,
        "point_over_forward": whole / once / points,
        "masked_over_curve": masked / small,
        "points": points,
        "differing_counts": int((torch.cat(plain) != curve(few)).sum()),
    }


def pieces(whole: Batch, count: int, batch_size: int) -> Iterator[Batch]:
    """The first ``count`` samples in batches; their labels are (T, N) or (T, N, K)."""
    for positions in torch.arange(count).split(batch_size):
        places = None if whole.places is None else whole.places[positions]
        yield Batch(whole.inputs[positions], whole.labels[:, positions], places)


@torch.inference_mode()
def masked_matches(network: Network, order: Sequence[int], batch: Batch) -> Tensor:
    """The same counts the plain way: a full forward pass for each point, channels set to zero."""
    counts = []
    for pruned in range(len(order) + 1):
        activations = features(network, batch.inputs)
        activations[:, order[:pruned]] = 0
        answers = network.answers(network.head(activations), batch.places)
        counts.append((answers == batch.labels).flatten(1).sum(1))
    return torch.stack(counts, dim=1).cpu()
