"""One training loop, for the attacker's networks and for the defender's fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from fineprune import runtime
from fineprune.augmentation import Kind, augment, check_kinds
from fineprune.checkpoints import Checkpoint
from fineprune.config import Count, NonNegative, Positive, Range, Share
from fineprune.data.batches import Batch, Samples
from fineprune.errors import ModelError
from fineprune.models.base import Network, Step


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        optimizer: ``sgd`` with momentum, or ``adam`` with the momentum as its first beta.
        epochs: passes over the samples.
        batch_size: samples per step.
        learning_rate: the highest, at which the schedule starts.
        schedule: ``constant``, or ``cosine`` down to zero over all steps behind the warm-up.
        momentum, weight_decay: of the optimizer; the decay is an L2 penalty under ``adam`` too.
        warm_up: share of all steps in which the learning rate first rises linearly to ``learning_rate``; None
            for no such steps.
        clip: largest L2 norm of the gradient of a step; longer ones are scaled down to it. None for no limit.
        augment: what :mod:`fineprune.augmentation` does to each batch; None for nothing.
    """

    optimizer: Literal["sgd", "adam"]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    schedule: Literal["constant", "cosine"]
    momentum: Annotated[float, Range(ge=0, lt=1)]
    weight_decay: NonNegative
    warm_up: Share | None
    clip: Positive | None
    augment: tuple[Kind, ...] | None


@dataclass(frozen=True)
class Epoch:
    """What one pass over the samples gave: its number from 1, mean loss, and share of right decisions."""

    number: int
    loss: float
    accuracy: float


def derived_seed(seed: int, purpose: str) -> int:
    """A seed of its own for one purpose, so that neighbouring seeds share no random numbers."""
    return int(np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)[0])


def train(
    network: Network, samples: Samples, recipe: Recipe, *, seed: int, checkpoint: Checkpoint | None = None
) -> Iterator[Epoch]:
    """Train in place on the device where the network lies; yields after each epoch.

    Args:
        network: takes raw inputs; laid out by :func:`fineprune.runtime.place`.
        samples: drawn in a new random order each epoch; the last batch may be smaller, or larger by one.
        recipe: epochs, steps and rates.
        seed: of the order, of augmentation, and of dropout.
        checkpoint: where this training leaves how far it is. It goes on after the epochs recorded there,
            which are not yielded again: :func:`epochs_before`.

    Raises:
        ConfigError: an augmentation does not fit the inputs.
        ModelError: the loss is NaN or infinite.
    """
    spec, kinds = network.spec.input, recipe.augment or ()
    check_kinds(kinds, spec)
    device = network.device
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    changes = torch.Generator(device).manual_seed(derived_seed(seed, "augment"))
    generators = {"order": order, "changes": changes}
    steps = len(_batches(torch.arange(len(samples)), recipe.batch_size))
    optimizer = _optimizer(network, recipe)
    past = epochs_before(checkpoint)
    if checkpoint is not None:
        checkpoint.restore(network, optimizer, generators)
        network.eval()  # where no epoch is left
    scheduler = _scheduler(optimizer, recipe, steps, done=steps * len(past))
    for number in range(len(past) + 1, recipe.epochs + 1):
        network.train()
        loss, right, total = (torch.zeros((), device=device) for _ in range(3))
        # Nothing in this loop asks the device before the epoch ends, so that no step waits for a GPU; what it
        # calls does for a detector's suppression, and for data that is read from disk.
        shuffled = torch.randperm(len(samples), generator=order).to(device)
        for positions in _batches(shuffled, recipe.batch_size):
            batch = augment(samples.draw(positions), kinds, changes, spec)
            step = _step(network, optimizer, batch, recipe.clip)
            scheduler.step()
            loss += step.loss.detach() * len(positions)
            right += step.right
            total += step.total
        network.eval()
        mean = float(loss) / len(samples)
        if not mean < float("inf"):
            raise ModelError(
                f"training: the loss is {mean} in epoch {number}: expected a finite one; lower learning_rate"
            )
        past.append(Epoch(number, mean, float(right) / max(float(total), 1)))
        if checkpoint is not None:
            notes, over = [astuple(epoch) for epoch in past], number == recipe.epochs
            checkpoint.save(network, optimizer, generators, notes, over=over)
        yield past[-1]


def epochs_before(checkpoint: Checkpoint | None) -> list[Epoch]:
    """The epochs that an attempt before, which was interrupted, has left in its checkpoint."""
    return [Epoch(*values) for values in checkpoint.notes] if checkpoint is not None else []


def _batches(positions: Tensor, size: int) -> list[Tensor]:
    """Parts of ``size`` and a smaller last one; a single sample joins the part before, for batch norm."""
    parts = list(positions.split(size))
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    parameters, rate, decay = network.parameters(), recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adam":
        betas = (recipe.momentum, 0.999)
        return torch.optim.Adam(parameters, rate, betas, weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, rate, recipe.momentum, weight_decay=decay, fused=True)


def _scheduler(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int, *, done: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule of the learning rate over all steps, of which some are done."""
    steps = recipe.epochs * steps_per_epoch
    rising = round((recipe.warm_up or 0.0) * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        share = (step - rising) / max(steps - rising, 1)
        return 1.0 if recipe.schedule == "constant" else (1 + math.cos(math.pi * share)) / 2

    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # which torch asks for where steps are done
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor, last_epoch=done - 1)


def _step(network: Network, optimizer: torch.optim.Optimizer, batch: Batch, clip: float | None) -> Step:
    """One step of the optimizer."""
    try:
        with runtime.autocast(batch.inputs.device):
            step = network.loss(*batch)
    except ValueError as error:  # batch norm on a single value per channel, for example
        raise ModelError(f"training: {error}") from error
    optimizer.zero_grad(set_to_none=True)
    step.loss.backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimizer.step()
    return step
