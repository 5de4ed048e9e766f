"""The attack folder: what the evaluation, and nobody else, may know of the attack.

::

    attack.json    label policy, poison rate, sources, seed, how well it must take; sha256 of the arrays
    keep.npy       the trigger: share of the input that stays
    add.npy        the trigger: what is added, in raw units
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fineprune.attacks.labels import LabelPolicy
from fineprune.attacks.poisoning import PoisonConfig
from fineprune.attacks.triggers import Trigger
from fineprune.config import Fraction, Seed, read_card
from fineprune.data.format import InputSpec
from fineprune.errors import AttackError
from fineprune.files import check_digest, sha256, write_json

FORMAT = 1
CARD = "attack.json"
ARRAYS = ("keep.npy", "add.npy")


@dataclass(frozen=True)
class TookLimits:
    """When an attack counts as taken: enough backdoor success, at little clean accuracy lost."""

    min_backdoor_success: Fraction
    max_clean_cost: Fraction


@dataclass(frozen=True)
class AttackCard:
    """The content of ``attack.json``; ``name`` is the kind of attack, ``trigger`` its config."""

    format: int
    name: str
    input: InputSpec
    trigger: dict[str, Any]
    labels: LabelPolicy
    poison: PoisonConfig
    took: TookLimits
    seed: Seed
    sha256: dict[str, Any]


def save_attack(path: Path, trigger: Trigger, card: Mapping[str, Any]) -> None:
    """Write an attack folder.

    Args:
        path: the folder to make.
        trigger: its arrays.
        card: the fields of :class:`AttackCard` from ``name`` to ``seed``, as plain values.
    """
    path.mkdir(parents=True)
    for name, values in zip(ARRAYS, (trigger.keep, trigger.add), strict=True):
        np.save(path / name, values.numpy(), allow_pickle=False)
    digests = {name: sha256(path / name) for name in ARRAYS}
    write_json(path / CARD, {"format": FORMAT, "input": asdict(trigger.spec), **card, "sha256": digests})


def load_attack(path: Path) -> tuple[AttackCard, Trigger]:
    """Read and check an attack folder.

    Raises:
        AttackError: a file is missing, does not match its digest, or has another shape than the inputs.
    """
    card = read_card(AttackCard, path / CARD, format_number=FORMAT, error=AttackError, name="card")
    arrays = []
    for name in ARRAYS:
        check_digest(path / name, card.sha256.get(name, "none recorded"), AttackError)
        try:
            arrays.append(np.load(path / name, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise AttackError(f"{path / name}: not a readable .npy array: {error}") from error
        if arrays[-1].shape != card.input.shape:
            raise AttackError(f"{path / name}: expected shape {card.input.shape}, found {arrays[-1].shape}")
    return card, Trigger(arrays[0], arrays[1], card.input)
