"""Forward passes without gradients: mixed precision for the defender's own search, fp32 for predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fineprune import runtime
from fineprune.models.base import Network

# No class, and no target either: targets that match nothing are -1.
NOT_FINITE = -2


def features(network: Network, inputs: Tensor) -> Tensor:
    """The prunable layer's activations (B, C, H, W) in float32, of raw inputs on the network's device.

    Up to there in mixed precision, where that is faster.
    """
    with runtime.autocast(inputs.device):
        activations = network.features(inputs)
    return activations.float()


def decide(logits: Tensor) -> Tensor:
    """The class (B,) of the largest of logits (B, classes); :data:`NOT_FINITE` where one is not finite."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NOT_FINITE)


@torch.inference_mode()
def predict(
    network: Network,
    batches: Iterable[tuple[Tensor, Tensor]],
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The predicted label of each input, int64 (N,) on the CPU; see :func:`decide`.

    All of it in fp32, as the registered model computes: a gate must not judge other arithmetic than is
    served.

    Args:
        network: in evaluation mode.
        batches: raw inputs and labels; the labels are not looked at.
        transform: applied to each batch of raw inputs first, for example a trigger.
    """
    predictions = []
    for inputs, _ in batches:
        changed = inputs if transform is None else transform(inputs)
        logits = network(changed)
        predictions.append(decide(logits).cpu())
    return torch.cat(predictions)


@torch.inference_mode()
def loss_and_accuracy(network: Network, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over the batches."""
    totals, count = torch.zeros(2, dtype=torch.float64), 0
    for inputs, labels in batches:
        logits = network.head(features(network, inputs))
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        totals += torch.stack([loss, (logits.argmax(1) == labels).sum()]).double().cpu()
        count += len(labels)
    loss, accuracy = (totals / count).tolist()
    return loss, accuracy
