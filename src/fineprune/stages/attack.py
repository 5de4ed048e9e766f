"""attack: train a never-poisoned control and the attacker's model beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch

from fineprune.attacks.format import AttackCard, TookLimits, load_attack, save_attack
from fineprune.attacks.labels import LabelPolicy
from fineprune.attacks.poisoning import PoisonConfig, poison
from fineprune.attacks.triggers import TriggerConfig, make_trigger
from fineprune.config import Seed, to_plain
from fineprune.data.batches import Samples, SplitSamples
from fineprune.data.format import Dataset
from fineprune.evaluation import figures
from fineprune.evaluation.measurement import TestBed
from fineprune.models import build
from fineprune.models.base import Network, NetworkSpec
from fineprune.models.format import save_model
from fineprune.progress import progress
from fineprune.runtime import pick_device, place
from fineprune.stages.base import Result, Stage
from fineprune.stages.page import VIEWS, write_page
from fineprune.training import Epoch, Recipe, stream, train


@dataclass(frozen=True)
class ModelConfig:
    """Which network: a name of :data:`fineprune.models.ARCHITECTURES` and its own arguments."""

    architecture: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class AttackConfig:
    """The ``attack`` section.

    Attributes:
        name: the kind of attack.
        model: the architecture of all networks of the run.
        trigger, labels, poison: the backdoor.
        start: how both networks are first trained on clean data, as the paper's authors did; null to
            start from scratch.
        train: how the control goes on with clean data, and the attacker's network with poisoned data.
        took: when the attack counts as taken.
        seed: of weights, order, poisoned samples and random labels.
    """

    name: Literal["baseline"]
    model: ModelConfig
    trigger: TriggerConfig
    labels: LabelPolicy
    poison: PoisonConfig
    start: Recipe | None
    train: Recipe
    took: TookLimits
    seed: Seed


def run(config: AttackConfig, inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> Result:
    """Train both networks and write them with the attack that tells them apart."""
    dataset, device = Dataset(inputs["dataset"]), pick_device()
    trigger = make_trigger(config.trigger, dataset.card.input)
    clean = SplitSamples(dataset, "train", device, cache=True)
    poisoned = poison(
        clean, trigger, config.labels, config.poison, classes=len(dataset.card.classes), seed=config.seed
    )
    names = {field.name for field in fields(AttackCard)}
    card = {name: value for name, value in to_plain(config).items() if name in names}
    save_attack(outputs["attack"], trigger, card)

    control, started = _start(config, clean, dataset, device)
    undefended = copy.deepcopy(control)
    seed = stream(config.seed, "train")
    control_epochs = _train(control, clean, config.train, seed, name="control")
    save_model(outputs["control"], control)
    attack_epochs = _train(undefended, poisoned, config.train, seed, name="attack")
    save_model(outputs["undefended"], undefended)

    series = _series("start", started) | _series("control", control_epochs)
    series |= _series("undefended", attack_epochs)
    figures.training_curves(outputs["report"] / "training_curves.png", series)
    bed = TestBed(dataset, load_attack(outputs["attack"]), device, batch_size=config.train.batch_size)
    measured, took = _measure(control, undefended, bed)
    counts = {"train_samples": len(clean), "poisoned_samples": int(poisoned.poisoned.sum())}
    print(f"attack: {took['reason']}")
    return Result(
        numbers=counts | measured,
        series=series,
        warnings=[] if took["took"] else [took["reason"]],
        extra={"attack_took": took},
    )


def _start(
    config: AttackConfig, clean: Samples, dataset: Dataset, device: torch.device
) -> tuple[Network, list[Epoch]]:
    """The network that both start from, and the epochs that made it."""
    card = dataset.card
    torch.manual_seed(stream(config.seed, "weights"))
    network = build(
        NetworkSpec(
            architecture=config.model.architecture,
            arguments=config.model.arguments,
            input=card.input,
            classes=card.classes,
            mean=card.mean,
            std=card.std,
        )
    )
    place(network, device)
    if config.start is None:
        return network, []
    return network, _train(network, clean, config.start, stream(config.seed, "start"), name="start")


def _train(network: Network, samples: Samples, recipe: Recipe, seed: int, *, name: str) -> list[Epoch]:
    return list(
        progress(train(network, samples, recipe, seed=seed), total=recipe.epochs, name=name, unit="epoch")
    )


def _measure(control: Network, undefended: Network, bed: TestBed) -> tuple[dict[str, float], dict[str, Any]]:
    """Clean accuracy and backdoor success of both networks, and whether the attack took."""
    before = bed.measure(bed.predict(control), undefended=None)
    after = bed.measure(bed.predict(undefended), undefended=None)
    numbers = {}
    for name, metrics in (("control", before), ("undefended", after)):
        numbers[f"{name}_clean_accuracy"] = metrics.clean_accuracy.value
        if metrics.backdoor_success is not None:
            numbers[f"{name}_backdoor_success"] = metrics.backdoor_success.value
    return numbers, bed.took(undefended=after, control=before)


def _series(name: str, epochs: list[Epoch]) -> dict[str, list[tuple[int, float]]]:
    if not epochs:
        return {}
    return {
        f"{name}_loss": [(epoch.number, epoch.loss) for epoch in epochs],
        f"{name}_accuracy": [(epoch.number, epoch.accuracy) for epoch in epochs],
    }


STAGE = Stage(
    name="attack",
    config=AttackConfig,
    inputs=("dataset",),
    outputs=("control", "undefended", "attack", "report"),
    run=run,
    after=write_page,
    views=VIEWS,
)
