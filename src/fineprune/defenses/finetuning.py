"""Fine-tuning on clean data, with an early stop on data of its own (paper, §4)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

from fineprune.config import Count
from fineprune.data.batches import Samples, in_order
from fineprune.errors import DefenseError
from fineprune.inference import loss_and_accuracy
from fineprune.models.base import Network
from fineprune.training import Epoch, Recipe, train


@dataclass(frozen=True)
class EarlyStop:
    """When fine-tuning ends.

    Attributes:
        min_epochs: the first epoch whose weights may be kept. The weights before fine-tuning never
            are: a backdoored network already does well on clean data, so an early stop that may
            choose them would often choose to do nothing.
        patience: epochs after those, without a lower loss on the early-stop data, before it ends.
    """

    min_epochs: Count
    patience: Count


@dataclass(frozen=True)
class Tuned:
    """One epoch of fine-tuning: training figures, early-stop figures, and whether it is the best so far."""

    epoch: Epoch
    holdout_loss: float
    holdout_accuracy: float
    best: bool


def fine_tune(
    network: Network,
    samples: Samples,
    holdout: Samples,
    recipe: Recipe,
    stop: EarlyStop,
    *,
    seed: int,
) -> Iterator[Tuned]:
    """Fine-tune in place; yields after each epoch and leaves the best epoch's weights in the network.

    Args:
        network: on the device of the samples; pruned channels are gone, so they stay pruned.
        samples: the defender's clean training data.
        holdout: the early-stop data, disjoint from ``samples``.
        recipe: how fast, and for how long at most.
        stop: when it ends sooner.
        seed: of the order, of augmentation, and of dropout.

    Raises:
        DefenseError: more epochs before the first that may be kept than there are; the loss on the early-stop
            data is not finite.
        ModelError: the training loss is not.
    """
    if stop.min_epochs > recipe.epochs:
        raise DefenseError(
            f"finetune.stop.min_epochs: expected at most the {recipe.epochs} epochs, found {stop.min_epochs}"
        )
    best_loss, best_state, since = math.inf, {}, 0  # the first epoch that may be kept is one
    for epoch in train(network, samples, recipe, seed=seed):
        loss, accuracy = loss_and_accuracy(network, in_order(holdout, recipe.batch_size))
        if not math.isfinite(loss):
            raise DefenseError(
                f"finetune: the loss on the early-stop data is {loss} in epoch {epoch.number}; "
                "lower learning_rate"
            )
        better = epoch.number >= stop.min_epochs and loss < best_loss
        if better:
            best_loss, best_state, since = loss, copy.deepcopy(network.state_dict()), 0
        else:
            since += epoch.number > stop.min_epochs
        yield Tuned(epoch, loss, accuracy, better)
        if since >= stop.patience:
            break
    network.load_state_dict(best_state)
