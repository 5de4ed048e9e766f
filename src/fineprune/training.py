"""One training loop, for the attacker's networks and for the defender's fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineprune import runtime
from fineprune.config import Count, NonNegative, Positive, Range
from fineprune.data.batches import Samples
from fineprune.errors import ModelError


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        optimizer: ``sgd`` with momentum, or ``adam`` with the momentum as its first beta.
        epochs: passes over the samples.
        batch_size: samples per step.
        learning_rate: at the start.
        schedule: ``constant``, or ``cosine`` down to zero over all steps.
        momentum, weight_decay: of the optimizer.
    """

    optimizer: Literal["sgd", "adam"]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    schedule: Literal["constant", "cosine"]
    momentum: Annotated[float, Range(ge=0, lt=1)]
    weight_decay: NonNegative


@dataclass(frozen=True)
class Epoch:
    """What one pass over the samples gave: its number from 1, mean loss, and accuracy while training."""

    number: int
    loss: float
    accuracy: float


def stream(seed: int, purpose: str) -> int:
    """A seed of its own for one purpose, so that neighbouring seeds share no random numbers."""
    return int(np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)[0])


def train(network: nn.Module, samples: Samples, recipe: Recipe, *, seed: int) -> Iterator[Epoch]:
    """Train in place on the device where the network lies; yields after each epoch.

    Args:
        network: takes raw inputs, gives logits; laid out by :func:`fineprune.runtime.place`.
        samples: drawn in a new random order each epoch; the last, smaller batch is kept.
        recipe: epochs, steps and rates.
        seed: of the order, and of dropout.

    Raises:
        ModelError: the loss is NaN or infinite.
    """
    device = next(network.parameters()).device
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    optimizer = _optimizer(network, recipe)
    steps = recipe.epochs * -(-len(samples) // recipe.batch_size)
    scheduler = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if recipe.schedule == "cosine" else None
    )
    for number in range(1, recipe.epochs + 1):
        network.train()
        totals = torch.zeros(2, device=device)
        for positions in torch.randperm(len(samples), generator=order).split(recipe.batch_size):
            try:
                totals += _step(network, optimizer, *samples.draw(positions.to(device)))
            except ValueError as error:  # batch norm on a single value per channel, for example
                raise ModelError(f"training: {error}") from error
            if scheduler is not None:
                scheduler.step()
        network.eval()
        loss, accuracy = (totals / len(samples)).tolist()
        if not loss < float("inf"):
            raise ModelError(
                f"training: the loss is {loss} in epoch {number}: expected a finite one; lower learning_rate"
            )
        yield Epoch(number, loss, accuracy)


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters, rate, decay = network.parameters(), recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, (recipe.momentum, 0.999), weight_decay=decay)
    return torch.optim.SGD(parameters, rate, recipe.momentum, weight_decay=decay)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor) -> Tensor:
    """One step of SGD; returns (2,): summed loss and count of right predictions."""
    with runtime.autocast(inputs.device):
        logits = network(inputs)
    loss = F.cross_entropy(logits.float(), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        return torch.stack([loss * len(labels), (logits.argmax(1) == labels).sum().float()])
