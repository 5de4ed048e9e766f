"""Forward passes without gradients: mixed precision for the defender's own search, fp32 for predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from fineprune import runtime
from fineprune.data.batches import Batch
from fineprune.models.base import Network, Outputs

Transform = Callable[[Tensor, Tensor | None], Tensor]
"""Changes raw inputs (B, *shape), given the places of the batch; a trigger, for example."""


def features(network: Network, inputs: Tensor) -> Tensor:
    """The prunable layer's activations (B, C, H, W) in float32, of raw inputs on the network's device.

    Up to there in mixed precision, where that is faster.
    """
    with runtime.autocast(inputs.device):
        activations = network.features(inputs)
    return activations.float()


def outputs(
    network: Network, batches: Iterable[Batch], transform: Transform | None = None
) -> Iterator[tuple[Outputs, Batch]]:
    """What the network puts out for each batch, which is as the network saw it.

    All of it in fp32 (on a GPU PyTorch's, whose convolutions are in TF32), as the registered model
    computes: a gate must not judge other arithmetic than is served.

    Args:
        network: in evaluation mode.
        batches: raw inputs and places.
        transform: applied to each batch of raw inputs first, for example a trigger.
    """
    for batch in batches:
        seen = batch
        if transform is not None:
            seen = batch._replace(inputs=transform(batch.inputs, batch.places))
        with torch.inference_mode():
            found = network(seen.inputs)
        yield found, seen


def predict(network: Network, batches: Iterable[Batch], transform: Transform | None = None) -> Tensor:
    """What the network says of each label, int64 (N,) or (N, K) on the CPU; see :meth:`Network.answers`.

    Arguments as for :func:`outputs`; the labels are not looked at.
    """
    said = outputs(network, batches, transform)
    return torch.cat([network.answers(found, batch.places).cpu() for found, batch in said])


@torch.inference_mode()
def loss_and_accuracy(network: Network, batches: Iterable[Batch]) -> tuple[float, float]:
    """Mean training loss, and the share of right decisions, over the batches."""
    loss: Tensor | float = 0.0  # sums stay on the device, so that no batch waits for the one before
    right: Tensor | int = 0
    decisions: Tensor | int = 0
    samples = 0
    for batch in batches:
        with runtime.autocast(batch.inputs.device):
            step = network.loss(*batch)
        loss += step.loss.double() * len(batch.inputs)
        right += step.right
        decisions += step.total
        samples += len(batch.inputs)
    return float(loss) / samples, int(right) / max(int(decisions), 1)
