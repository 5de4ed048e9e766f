"""What became of every test input under a model: what all rates are counted from, and a report keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fineprune.errors import DataError, excerpt
from fineprune.evaluation.intervals import Flags, Groups
from fineprune.files import as_mapping

Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """What the predictions are held against, one entry for each of N test inputs.

    Attributes:
        labels: (N,) int, the true classes.
        attacker_labels: (N,) int, the class that the attacker wants with the trigger on; read only
            for a targeted attack, where eligible.
        eligible: (N,) bool, inputs whose triggered version counts. An input that already is of the
            class that the attacker wants cannot show a backdoor.
        groups: (N,) int, the speaker, video or image that each input is of.
        targeted: whether the attacker wants a certain class, or just any wrong one.

    Raises:
        DataError: the lengths differ, no input is eligible, or the labels contradict ``eligible``.
    """

    labels: Classes
    attacker_labels: Classes
    eligible: Flags
    groups: Groups
    targeted: bool

    def __post_init__(self) -> None:
        for name in ("attacker_labels", "eligible", "groups"):
            check_length(name, getattr(self, name), len(self.labels))
        if not self.eligible.any():
            raise DataError(f"test split: no input of {len(self.labels)} is eligible for the attack")
        if self.targeted:
            wanted, true = self.attacker_labels[self.eligible], self.labels[self.eligible]
            if (wanted < 0).any() or (wanted == true).any():
                raise DataError(
                    "test split: an eligible input lacks an attacker's label, or has it as true class"
                )


@dataclass(frozen=True)
class Outcomes:
    """What became of N test inputs under one model.

    Attributes:
        right: (N,) bool, whether the clean input gets its true class.
        kept: (N,) bool, whether the triggered input does.
        fooled: (N,) bool, whether the triggered input gets the attacker's label; None if untargeted.
        eligible: (N,) bool, inputs whose triggered version counts; of the others ``kept`` and ``fooled`` say
            nothing.
        groups: (N,) int, the speaker, video or image that each input is of.
    """

    right: Flags
    kept: Flags
    fooled: Flags | None
    eligible: Flags
    groups: Groups

    @classmethod
    def of(cls, clean: Classes, triggered: Classes, truth: Truth) -> Outcomes:
        """What became of the inputs whose predicted classes these are.

        Args:
            clean: (N,) int, predicted classes of the clean inputs.
            triggered: (N,) int, predicted classes of the triggered inputs.
            truth: labels of the same N inputs.

        Raises:
            DataError: the lengths differ.
        """
        for name, predictions in (("clean", clean), ("triggered", triggered)):
            check_length(f"{name} predictions", predictions, len(truth.labels))
        return cls(
            right=clean == truth.labels,
            kept=triggered == truth.labels,
            fooled=triggered == truth.attacker_labels if truth.targeted else None,
            eligible=truth.eligible,
            groups=truth.groups,
        )


def as_report(models: Mapping[str, Outcomes]) -> dict[str, Any]:
    """The outcomes of models on the same inputs, as a report keeps them.

    Flags are text of 0 and 1, groups numbers with blanks between; null where each input is one of its own.
    """
    some = next(iter(models.values()))
    distinct, groups = np.unique(some.groups, return_inverse=True)
    return {
        "eligible": _as_text(some.eligible),
        "groups": None if len(distinct) == len(groups) else " ".join(map(str, groups)),
        "models": {
            name: {
                "right": _as_text(one.right),
                "kept": _as_text(one.kept),
                "fooled": None if one.fooled is None else _as_text(one.fooled),
            }
            for name, one in models.items()
        },
    }


def from_report(kept: object, model: str) -> Outcomes:
    """One model's outcomes of those that :func:`as_report` made; their content is not trusted.

    Raises:
        DataError: they are missing or malformed.
    """
    row = as_mapping(as_mapping(as_mapping(kept).get("models")).get(model))
    eligible = _as_flags("eligible", as_mapping(kept).get("eligible"), None)
    size = len(eligible)
    fooled = row.get("fooled")
    if not eligible.any():
        raise DataError(f"outcomes: eligible: expected a 1 for some input, found none of {size}")
    return Outcomes(
        right=_as_flags(f"{model}.right", row.get("right"), size),
        kept=_as_flags(f"{model}.kept", row.get("kept"), size),
        fooled=None if fooled is None else _as_flags(f"{model}.fooled", fooled, size),
        eligible=eligible,
        groups=_as_groups(as_mapping(kept).get("groups"), size),
    )


def check_length(name: str, values: npt.NDArray[Any], expected: int) -> None:
    """Raise :class:`DataError` unless there is one entry for each of ``expected`` test inputs."""
    if values.shape != (expected,):
        raise DataError(
            f"{name}: expected one entry for each of {expected} test inputs, found {values.shape}"
        )


def _as_text(flags: Flags) -> str:
    return "".join("1" if flag else "0" for flag in flags)


def _as_flags(name: str, text: object, size: int | None) -> Flags:
    wanted = "0 and 1" if size is None else f"0 and 1 for {size} test inputs"
    if not isinstance(text, str) or set(text) - {"0", "1"} or size not in (None, len(text)):
        raise DataError(f"outcomes: {name}: expected {wanted}, found {excerpt(text)}")
    return np.array([character == "1" for character in text], dtype=bool)


def _as_groups(text: object, size: int) -> Groups:
    if text is None:
        return np.arange(size)
    numbers = text.split(" ") if isinstance(text, str) else []
    if len(numbers) != size or not set(numbers) <= {str(number) for number in range(size)}:
        raise DataError(f"outcomes: groups: expected {size} numbers below {size}, found {excerpt(text)}")
    return np.array(numbers, dtype=np.int64)
