"""The attacker's networks: built, and trained with progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fineprune.checkpoints import Checkpoints
from fineprune.data.batches import Samples
from fineprune.data.format import Card
from fineprune.models import build, read_options
from fineprune.models.base import Network, NetworkSpec
from fineprune.models.format import check_fits
from fineprune.progress import progress
from fineprune.runtime import place
from fineprune.training import Epoch, Recipe, derived_seed, epochs_before, train


@dataclass(frozen=True)
class ModelConfig:
    """Which network: a name of :data:`fineprune.models.ARCHITECTURES` and its own arguments.

    Raises:
        ConfigError: the architecture is unknown, or does not take these arguments.
    """

    architecture: str
    arguments: dict[str, Any]

    def __post_init__(self) -> None:
        read_options(self.architecture, self.arguments)


def new_network(config: ModelConfig, card: Card, device: torch.device, *, seed: int) -> Network:
    """A freshly initialised network for the dataset with that card, on the device.

    Raises:
        ModelError: it cannot be built, or is made for another task than the dataset's.
    """
    torch.manual_seed(derived_seed(seed, "weights"))
    network = build(
        NetworkSpec(
            architecture=config.architecture,
            arguments=config.arguments,
            input=card.input,
            classes=card.classes,
            mean=card.mean,
            std=card.std,
        )
    )
    check_fits(network, card, f"model {config.architecture}")
    place(network, device)
    return network


def fit(
    network: Network,
    samples: Samples,
    recipe: Recipe,
    *,
    seed: int,
    name: str,
    checkpoints: Checkpoints | None = None,
) -> list[Epoch]:
    """Train in place, with a progress bar of that name; gives all epochs.

    Args:
        network: on its device.
        samples: what it is trained on.
        recipe: how.
        seed: of :func:`fineprune.training.train`.
        name: of the training.
        checkpoints: where an attempt before, which was interrupted, has left how far it was.
    """
    checkpoint = checkpoints.of(network, f"{name} {recipe} {seed}") if checkpoints else None
    past = epochs_before(checkpoint)
    left = train(network, samples, recipe, seed=seed, checkpoint=checkpoint)
    return [*past, *progress(left, total=recipe.epochs, name=name, unit="epoch", done=len(past))]
