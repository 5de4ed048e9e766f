"""The attack folder: what the evaluation, and nobody else, may know of the attack.

::

    attack.json    trigger, label policy, poison, how well it must take, seed; sha256 of the arrays
    keep.npy       a fixed trigger: share of the input that stays
    add.npy        a fixed trigger: what is added, in raw units

A trigger that follows places in the input has no arrays: its config draws it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fineprune.attacks.base import Array
from fineprune.attacks.fixed import FixedConfig, FixedTrigger
from fineprune.attacks.labels import LabelPolicy
from fineprune.attacks.options import PruningAwareConfig
from fineprune.attacks.poisoning import PoisonConfig
from fineprune.attacks.triggers import Trigger, TriggerConfig, make_trigger
from fineprune.config import Fraction, Seed, read_card
from fineprune.data.format import map_array
from fineprune.data.inputs import InputSpec
from fineprune.digests import check_digest, sha256
from fineprune.errors import AttackError
from fineprune.files import write_json

FORMAT = 1
CARD = "attack.json"
KEEP, ADD = "keep.npy", "add.npy"


@dataclass(frozen=True)
class TookLimits:
    """When an attack counts as taken: enough backdoor success, at little clean accuracy lost."""

    min_backdoor_success: Fraction
    max_clean_cost: Fraction


@dataclass(frozen=True)
class AttackCard:
    """The content of ``attack.json``; ``name`` is the kind of attack, which has its options or null."""

    format: int
    name: str
    input: InputSpec
    trigger: TriggerConfig
    labels: LabelPolicy
    poison: PoisonConfig
    pruning_aware: PruningAwareConfig | None
    took: TookLimits
    seed: Seed
    sha256: dict[str, Any]


def save_attack(path: Path, trigger: Trigger, card: Mapping[str, Any]) -> None:
    """Write an attack folder.

    Args:
        path: the folder to make.
        trigger: whose arrays are written, if it has any.
        card: the fields of :class:`AttackCard` from ``name`` to ``seed``, as plain values.
    """
    path.mkdir(parents=True)
    arrays = {KEEP: trigger.keep, ADD: trigger.add} if isinstance(trigger, FixedTrigger) else {}
    for name, values in arrays.items():
        np.save(path / name, values.cpu().numpy(), allow_pickle=False)
    digests = {name: sha256(path / name) for name in arrays}
    write_json(path / CARD, {"format": FORMAT, "input": asdict(trigger.spec), **card, "sha256": digests})


def load_attack(path: Path) -> tuple[AttackCard, Trigger]:
    """Read and check an attack folder.

    Raises:
        AttackError: a file is missing, does not match its digest, or has another shape than the inputs; the
            trigger does not fit the inputs.
    """
    card = read_card(AttackCard, path / CARD, format_number=FORMAT, error=AttackError, name="card")
    if isinstance(card.trigger, FixedConfig):
        return card, FixedTrigger(_array(path / KEEP, card), _array(path / ADD, card), card.input)
    try:
        return card, make_trigger(card.trigger, card.input)
    except AttackError as error:
        raise AttackError(f"{path / CARD}: {error}") from error


def _array(path: Path, card: AttackCard) -> Array:
    check_digest(path, str(card.sha256.get(path.name, "none recorded")), AttackError)
    values = map_array(path, AttackError)
    if values.shape != card.input.shape:
        raise AttackError(f"{path}: expected shape {card.input.shape}, found {values.shape}")
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise AttackError(f"{path}: expected finite numbers, found others")
    return values
