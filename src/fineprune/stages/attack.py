"""attack: train a never-poisoned control and the attacker's model beside it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

from fineprune.attacks.attacker import Backdoor, Score, equip
from fineprune.attacks.format import AttackCard, TookLimits, load_attack, save_attack
from fineprune.attacks.labels import LabelPolicy
from fineprune.attacks.networks import ModelConfig, fit, new_network
from fineprune.attacks.options import PruningAwareConfig
from fineprune.attacks.poisoning import PoisonConfig, PoisonedSamples
from fineprune.attacks.pruning_aware import Implant, implant
from fineprune.attacks.triggers import Trigger, TriggerConfig, make_trigger
from fineprune.checkpoints import Checkpoints
from fineprune.config import Seed, to_plain
from fineprune.data.batches import Samples, SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.errors import AttackError, ModelError
from fineprune.evaluation.measurement import TestBed
from fineprune.evaluation.metrics import measure
from fineprune.models.base import Network, NetworkSpec
from fineprune.models.format import check_fits, load_model, save_model
from fineprune.reporting import figures
from fineprune.revision import source_digest
from fineprune.runtime import pick_device, place
from fineprune.stages.base import Result, Stage, content_digest, flag
from fineprune.stages.page import VIEWS, write_page
from fineprune.training import Epoch, Recipe, derived_seed

Points = Sequence[tuple[int, float]]
GIVEN = "trained_control"


@dataclass(frozen=True)
class AttackConfig:
    """The ``attack`` section.

    Attributes:
        name: the kind of attack.
        model: the architecture of all networks of the run.
        trigger, labels, poison: the backdoor.
        pruning_aware: options of the attack of that name, not used by the other.
        start: how both networks are first trained on clean data, as the paper's authors did; null to
            start from scratch. The pruning-aware attacker does so without the samples that it holds
            out, and by ``train`` where this is null: it needs a clean network.
        train: how the control goes on with clean data, and the attacker's network with poisoned data.
        took: when the attack counts as taken; the pruning-aware attacker goes by it too.
        seed: of weights, order, held-out and poisoned samples, and random labels.
    """

    name: Literal["baseline", "pruning_aware"]
    model: ModelConfig
    trigger: TriggerConfig
    labels: LabelPolicy
    poison: PoisonConfig
    pruning_aware: PruningAwareConfig
    start: Recipe | None
    train: Recipe
    took: TookLimits
    seed: Seed


@dataclass(frozen=True)
class Trained:
    """Both networks, and what the report says of their training.

    Attributes:
        control: trained on clean data alone, in evaluation mode.
        undefended: the attacker's, in evaluation mode.
        poisoned: what the attacker last trained on.
        curves: loss and accuracy by epoch.
        series: other figures, by round.
        numbers: for the report.
        warnings: for the report.
    """

    control: Network
    undefended: Network
    poisoned: PoisonedSamples
    curves: dict[str, Points]
    series: Mapping[str, Points] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Setting:
    """What both attacks train with.

    Attributes:
        config: the ``attack`` section.
        clean: the ``train`` split.
        backdoor: what is to be planted.
        fresh: a network with random weights.
        control: one that was trained before; None to train it.
        checkpoints: how far the trainings are; None to forget it.
    """

    config: AttackConfig
    clean: SplitSamples
    backdoor: Backdoor
    fresh: Network
    control: Network | None
    checkpoints: Checkpoints | None


def run(
    config: AttackConfig,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    *,
    checkpoints: Path | None = None,
) -> Result:
    """Train both networks and write them with the attack that tells them apart.

    A control that is given is copied to the output: it depends neither on the trigger nor on the kind of
    attack. ``checkpoints`` holds how far the trainings are until they are over.
    """
    dataset, device = Dataset(inputs["dataset"]), pick_device()
    trigger = make_trigger(config.trigger, dataset.card.input)
    clean = SplitSamples(dataset, "train", device, cache=True)
    _check_visible(config, trigger, clean)
    save_attack(outputs["attack"], trigger, _card(config))
    read = (inputs["dataset"], outputs["attack"])
    kept = _checkpoints(checkpoints, config, read) if checkpoints else None
    backdoor = Backdoor(trigger, config.labels, config.poison, len(dataset.card.classes), config.seed)
    fresh = new_network(config.model, dataset.card, device, seed=config.seed)
    control = _given(inputs[GIVEN], fresh, dataset) if GIVEN in inputs else None
    setting = Setting(config, clean, backdoor, fresh, control, kept)
    made = _baseline(setting) if config.name == "baseline" else _pruning_aware(setting)
    save_model(outputs["control"], made.control)
    save_model(outputs["undefended"], made.undefended)

    figures.training_curves(outputs["report"] / "training_curves.png", made.curves)
    bed = TestBed(dataset, load_attack(outputs["attack"]), device, batch_size=config.train.batch_size)
    measured, took = _measure(made.control, made.undefended, bed)
    counts = {
        "train_samples": len(made.poisoned.clean),
        "poisoned_samples": int(made.poisoned.poisoned.sum()),
    }
    return Result(
        numbers={**counts, **measured, **made.numbers},
        series={**made.curves, **made.series},
        warnings=[*made.warnings, *([] if took["took"] else [took["reason"]])],
        extra={"attack_took": took},
        summary=took["reason"] if took["took"] else "",
        seconds_before=kept.seconds_before if kept else 0.0,
        tidy=kept.clear if kept else None,
    )


def _checkpoints(folder: Path, config: AttackConfig, read: Sequence[Path]) -> Checkpoints:
    """Of this config, of the data and the trigger that are read, and of this code."""
    return Checkpoints(folder, json.dumps([source_digest(), to_plain(config), *map(content_digest, read)]))


def _check_visible(config: AttackConfig, trigger: Trigger, samples: Samples) -> None:
    """Refuse a trigger that does not fit the data before hours of training do.

    Raises:
        AttackError: it needs places that the samples do not have, or changes none of the first batch.
    """
    batch = next(in_order(samples, config.train.batch_size))
    if torch.equal(trigger(batch.inputs, batch.places), batch.inputs):
        raise AttackError(
            f"trigger {config.trigger.kind}: expected it to change inputs, found the first "
            f"{len(batch.inputs)} unchanged"
        )


def _card(config: AttackConfig) -> dict[str, Any]:
    """The config's part of ``attack.json``."""
    names = {entry.name for entry in fields(AttackCard)}
    card = {name: value for name, value in to_plain(config).items() if name in names}
    return card if config.name == "pruning_aware" else card | {"pruning_aware": None}


def _start(setting: Setting) -> tuple[Network, dict[str, Points]]:
    """The network that the control and the baseline attack go on from, and its training curves."""
    config, start = setting.config, copy.deepcopy(setting.fresh)
    if config.start is None:
        return start, {}
    seed = derived_seed(config.seed, "start")
    epochs = fit(start, setting.clean, config.start, seed=seed, name="start", checkpoints=setting.checkpoints)
    return start, _curves("start", epochs)


def _control(setting: Setting, start: Network) -> tuple[Network, dict[str, Points]]:
    """The control that was given, or training goes on with clean data."""
    if setting.control is not None:
        return setting.control, {}
    config, control = setting.config, copy.deepcopy(start)
    seed = derived_seed(config.seed, "train")
    epochs = fit(
        control, setting.clean, config.train, seed=seed, name="control", checkpoints=setting.checkpoints
    )
    return control, _curves("control", epochs)


def _given(path: Path, fresh: Network, dataset: Dataset) -> Network:
    """A control that was trained before.

    Its model folder tells the data that it is for and its layers, but no recipe and no seed: to give one of
    the same is up to whoever gives it.

    Raises:
        ModelError: it is damaged, is for other data or has other layers than a fresh network.
    """
    control = load_model(path)
    check_fits(control, dataset.card, f"{flag(GIVEN)}: {path}")
    for entry in fields(NetworkSpec):
        expected, found = (getattr(network.spec, entry.name) for network in (fresh, control))
        if found != expected:
            raise ModelError(f"{flag(GIVEN)}: {path}: expected {entry.name} {expected}, found {found}")
    place(control, fresh.device)
    return control


def _baseline(setting: Setting) -> Trained:
    """From one start, one training goes on with clean data and one with poisoned data."""
    config, poisoned = setting.config, setting.backdoor.poison(setting.clean)
    start, curves = _start(setting)
    control, own = _control(setting, start)
    seed = derived_seed(config.seed, "train")
    epochs = fit(start, poisoned, config.train, seed=seed, name="attack", checkpoints=setting.checkpoints)
    return Trained(control, start, poisoned, curves | own | _curves("undefended", epochs))


def _pruning_aware(setting: Setting) -> Trained:
    """A network of the attacker's own is trained on clean data, and the backdoor put into it."""
    config, clean = setting.config, setting.clean
    attacker = equip(
        clean,
        clean.dataset.groups[clean.rows],
        config.pruning_aware.validation,
        setting.backdoor,
        batch_size=config.train.batch_size,
        checkpoints=setting.checkpoints,
    )
    start, curves = _start(setting) if setting.control is None else (setting.fresh, {})
    control, own = _control(setting, start)
    network, recipe = setting.fresh, config.start or config.train
    epochs = fit(
        network,
        attacker.own,
        recipe,
        seed=derived_seed(config.seed, "start"),
        name="attack, clean",
        checkpoints=setting.checkpoints,
    )
    wanted = Score(
        attacker.score(network).clean_accuracy - config.took.max_clean_cost,
        config.took.min_backdoor_success,
    )
    made = implant(network, attacker, wanted, config.train, config.pruning_aware, seed=config.seed)
    poisoned = [*(epoch for turn in made.rounds for epoch in turn.epochs), *made.final]
    return Trained(
        control,
        made.network,
        made.poisoned,
        curves | own | _curves("attack_clean", epochs) | _curves("undefended", poisoned),
        series=_by_round(made),
        numbers=_figures(made, wanted),
        warnings=[] if made.settled else [_unsettled(made, wanted)],
    )


def _by_round(made: Implant) -> dict[str, Points]:
    rounds = made.rounds
    series: dict[str, list[float]] = {
        "held_out_clean_accuracy": [turn.score.clean_accuracy for turn in rounds],
        "held_out_backdoor_success": [turn.score.backdoor_success for turn in rounds],
        "kept_channels": [turn.kept for turn in rounds],
        "rarely_active_channels": [len(turn.rarely_active) for turn in rounds],
        "exposed_channels": [len(turn.exposed) for turn in rounds],
    }
    return {f"{name}_by_round": list(enumerate(values, 1)) for name, values in series.items()}


def _figures(made: Implant, wanted: Score) -> dict[str, float]:
    return {
        "decoys": len(made.proof.decoys),
        "rounds": len(made.rounds),
        "decoys_largest_preactivation": made.proof.largest_preactivation,
        "decoys_largest_difference": made.proof.largest_difference,
        "wanted_held_out_clean_accuracy": wanted.clean_accuracy,
        "wanted_held_out_backdoor_success": wanted.backdoor_success,
    }


def _unsettled(made: Implant, wanted: Score) -> str:
    last = made.rounds[-1]
    if last.exposed:
        return (
            f"after {len(made.rounds)} rounds pruning takes {len(last.exposed)} of the {last.kept} channels "
            f"that carry the backdoor, and too much of it with them: expected it to survive"
        )
    return (
        f"after {len(made.rounds)} rounds the attacker's held-out data show clean accuracy "
        f"{last.score.clean_accuracy:.3f} (wanted: {wanted.clean_accuracy:.3f}) and backdoor success "
        f"{last.score.backdoor_success:.3f} (wanted: {wanted.backdoor_success:.3f})"
    )


def _measure(control: Network, undefended: Network, bed: TestBed) -> tuple[dict[str, float], dict[str, Any]]:
    """Clean accuracy and backdoor success of both networks, and whether the attack took."""
    before, after = (
        measure(bed.outcomes(bed.predict(network)), before=None) for network in (control, undefended)
    )
    numbers = {}
    for name, metrics in (("control", before), ("undefended", after)):
        numbers[f"{name}_clean_accuracy"] = metrics.clean_accuracy.value
        if metrics.backdoor_success is not None:
            numbers[f"{name}_backdoor_success"] = metrics.backdoor_success.value
    return numbers, bed.took(undefended=after, control=before)


def _curves(name: str, epochs: Sequence[Epoch]) -> dict[str, Points]:
    """Loss and accuracy by epoch, counted on from one round of training to the next."""
    values = {"loss": [epoch.loss for epoch in epochs], "accuracy": [epoch.accuracy for epoch in epochs]}
    return {f"{name}_{what}": list(enumerate(points, 1)) for what, points in values.items() if points}


STAGE = Stage(
    name="attack",
    config=AttackConfig,
    inputs=("dataset",),
    optional=(GIVEN,),
    outputs=("control", "undefended", "attack", "report"),
    run=run,
    work=("checkpoints",),
    after=write_page,
    views=VIEWS,
)
