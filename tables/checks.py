"""What the numbers must show, held against what they do show.

How much success makes an attack one that took, and how accurate the control must be, each case says
itself; the other limits are the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fineprune.evaluation.table import interval, number

MAX_PRUNING_LOSS = 0.04  # of clean accuracy
MAX_BASELINE_SHARE = 1 / 3  # of the backdoor that pruning alone may leave, under the baseline attack
MIN_AWARE_SHARE = 0.8  # of the backdoor that pruning alone leaves, under the pruning-aware attack
MAX_SUCCESS = 0.05  # targeted, after fine-pruning
MIN_REDUCTION = 3.0  # untargeted, by fine-pruning, under the baseline attack
MAX_LOSS = 0.01  # of clean accuracy, by fine-pruning
MIN_PRECISION = 0.6  # of a detector that was never poisoned

Cells = Sequence[Mapping[str, Any]]


def checks(cells: Cells) -> list[dict[str, Any]]:
    """``{"case", "attack", "name", "required", "found", "passed"}`` for each line; ``passed`` is None where a
    number is missing.
    """
    found = []
    for case, attack in dict.fromkeys((cell["case"], cell["attack"]) for cell in cells):
        own = [cell for cell in cells if (cell["case"], cell["attack"]) == (case, attack)]
        for name, required, told, passed in _lines(_Values(own), attack):
            line = {"name": name, "required": required, "found": told, "passed": passed}
            found.append({"case": case, "attack": attack, **line})
    return found


Line = tuple[str, str, str, bool | None]


class _Values:
    """The means of one case and attack."""

    def __init__(self, cells: Cells) -> None:
        self._cells = {(cell["network"], cell["defence"]): cell for cell in cells}
        self.targeted: bool = cells[0]["targeted"]
        self.limits: Mapping[str, float] = cells[0]["limits"]

    def get(self, metric: str, defence: str = "none", network: str = "attacked") -> Mapping[str, Any] | None:
        measured: Mapping[str, Any] | None = self._cells[network, defence]["measured"][metric]
        return measured

    def value(self, metric: str, defence: str = "none", network: str = "attacked") -> float:
        """The mean, or NaN."""
        found = self.get(metric, defence, network)
        return float("nan") if found is None else float(found["value"])


def _lines(values: _Values, attack: str) -> Iterator[Line]:
    yield _control(values)
    yield from _attack(values)
    yield _pruning(values, attack)
    yield from _fine_pruning(values, attack)
    yield _utility(values)


def _control(values: _Values) -> Line:
    if values.get("average_precision", network="control") is None:
        accuracy, least = (
            values.value("clean_accuracy", network="control"),
            values.limits["min_control_accuracy"],
        )
        return _line("the control has learned", f"cl ≥ {number(least)}", number(accuracy), accuracy, least)
    precision = values.value("average_precision", network="control")
    told = f"AP ≥ {number(MIN_PRECISION)}"
    return _line("the control has learned", told, number(precision), precision, MIN_PRECISION)


def _attack(values: _Values) -> Iterator[Line]:
    success, least = values.value("backdoor_success"), values.limits["min_backdoor_success"]
    yield _line("the attack takes", f"bd ≥ {number(least)}", number(success), success, least)
    before, after = values.value("clean_accuracy", network="control"), values.value("clean_accuracy")
    most = values.limits["max_clean_cost"]
    yield _line(
        "the attack stays hidden",
        f"cl at most {100 * most:g} points below the control's",
        f"{number(after)}, control {number(before)}",
        after,
        before - most,
    )


def _pruning(values: _Values, attack: str) -> Line:
    before, after = values.value("backdoor_success"), values.value("backdoor_success", "pruning")
    loss = values.value("clean_accuracy") - values.value("clean_accuracy", "pruning")
    share = after / before if before else float("nan")
    told = f"bd {number(before)} → {number(after)} ({share:.0%}), cl {_points(-loss)}"
    if attack == "baseline":
        required = f"bd at most a third of its start, cl at most {100 * MAX_PRUNING_LOSS:g} points lost"
        passed = _all(_at_least(-share, -MAX_BASELINE_SHARE), _at_least(-loss, -MAX_PRUNING_LOSS))
        return "pruning alone", required, told, passed
    required = f"bd still at least {MIN_AWARE_SHARE:.0%} of its start"
    return "pruning alone", required, told, _at_least(share, MIN_AWARE_SHARE)


def _fine_pruning(values: _Values, attack: str) -> Iterator[Line]:
    before, after = values.value("backdoor_success"), values.value("backdoor_success", "fine_pruning")
    if values.targeted:
        yield _line(
            "fine-pruning: backdoor",
            f"bd ≤ {number(MAX_SUCCESS)}",
            number(after),
            -after,
            -MAX_SUCCESS,
        )
    elif attack == "baseline":
        told = f"bd {number(before)} → {number(after)}"
        yield _line(
            "fine-pruning: backdoor",
            f"bd at least {MIN_REDUCTION:g} times lower",
            told,
            before,
            MIN_REDUCTION * after,
        )
    was, became = values.value("clean_accuracy"), values.value("clean_accuracy", "fine_pruning")
    yield _line(
        "fine-pruning: accuracy",
        f"cl at most {100 * MAX_LOSS:g} point lost",
        f"{number(was)} → {number(became)} ({_points(became - was)})",
        became,
        was - MAX_LOSS,
    )


def _utility(values: _Values) -> Line:
    name, required = (
        "fine-pruning: utility",
        "at least fine-tuning's, within the interval",
    )
    ours, theirs = values.get("utility", "fine_pruning"), values.get("utility", "fine_tuning")
    if ours is None or theirs is None:
        return name, required, "undefined", None
    told = f"{interval(ours)}, fine-tuning {number(theirs['value'])}"
    return name, required, told, _at_least(ours["high"], theirs["value"])


def _line(name: str, required: str, told: str, found: float, least: float) -> Line:
    return name, required, told, _at_least(found, least)


def _at_least(found: float, least: float) -> bool | None:
    """Whether ``found`` reaches ``least``, but for rounding; None for NaN."""
    return None if found != found or least != least else found >= least - 1e-9


def _all(*passed: bool | None) -> bool | None:
    return None if None in passed else all(passed)


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"
