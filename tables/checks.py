"""What the numbers must show, held against what they do show.

How much success makes an attack one that took, and how accurate the control must be, each case says
itself; the other limits are the same for all.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fineprune.reporting.table import number
from tables.mean import half_width

MAX_PRUNING_LOSS = 0.04  # of clean accuracy
MAX_BASELINE_SHARE = 1 / 3  # of the backdoor that pruning alone may leave, under the baseline attack
MIN_AWARE_SHARE = 0.8  # of the backdoor that pruning alone leaves, under the pruning-aware attack
MAX_SUCCESS = 0.05  # targeted, after fine-pruning
MIN_REDUCTION = 3.0  # untargeted, by fine-pruning, under the baseline attack
MAX_LOSS = 0.01  # of clean accuracy, by fine-pruning
MIN_PRECISION = 0.6  # of a detector that was never poisoned

MIN_SEEDS = 3  # for any of it to count
MAX_UTILITY_WIDTH = 0.1  # half of an interval that still says something

Cells = Sequence[Mapping[str, Any]]
Curves = Sequence[Mapping[str, Any]]


def checks(cells: Cells, curves: Curves) -> list[dict[str, Any]]:
    """``{"case", "attack", "name", "required", "found", "passed"}`` for each line; ``passed`` is None where a
    number is missing, where there are fewer than three seeds, and where the seeds differ too much to tell.

    Args:
        cells: as in paper.json.
        curves: its pruning curves.
    """
    found = []
    for case, attack in dict.fromkeys((cell["case"], cell["attack"]) for cell in cells):
        own = [cell for cell in cells if (cell["case"], cell["attack"]) == (case, attack)]
        (pruning,) = (
            curve["seeds"] for curve in curves if (curve["case"], curve["attack"]) == (case, attack)
        )
        seeds = len(own[0]["seeds"])
        for name, required, told, passed in _lines(_Values(own), pruning, attack):
            if seeds < MIN_SEEDS:
                told, passed = f"{told}; {seeds} of {MIN_SEEDS} seeds", None
            line = {"name": name, "required": required, "found": told, "passed": passed}
            found.append({"case": case, "attack": attack, **line})
    return found


Line = tuple[str, str, str, bool | None]


class _Values:
    """The means of one case and attack, and what they are means of."""

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

    def seeds(self, metric: str, defence: str = "none", network: str = "attacked") -> dict[str, float]:
        """The value of each seed; empty where one has none."""
        found = self.get(metric, defence, network)
        return {} if found is None else {seed: float(one["value"]) for seed, one in found["seeds"].items()}


def _lines(values: _Values, pruning: Mapping[str, Any], attack: str) -> Iterator[Line]:
    yield _control(values)
    yield from _attack(values)
    yield _pruning(pruning, attack)
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
    success, least = values.seeds("backdoor_success"), values.limits["min_backdoor_success"]
    mean = values.value("backdoor_success")
    told = number(mean) + _short([seed for seed, one in success.items() if not _at_least(one, least)])
    yield _line("the attack takes", f"bd ≥ {number(least)}", told, mean, least)
    before, after = values.value("clean_accuracy", network="control"), values.value("clean_accuracy")
    controls, most = values.seeds("clean_accuracy", network="control"), values.limits["max_clean_cost"]
    short = [
        seed
        for seed, one in values.seeds("clean_accuracy").items()
        if not _at_least(one, controls[seed] - most)
    ]
    yield _line(
        "the attack stays hidden",
        f"cl at most {100 * most:g} points below the control's",
        f"{number(after)}, control {number(before)}{_short(short)}",
        after,
        before - most,
    )


def _pruning(seeds: Mapping[str, Any], attack: str) -> Line:
    """Where the defender stops or, in a seed where that cost too much on the test inputs, at the last point
    before that. A pruning-aware backdoor has to survive both.
    """
    stops = {seed: _affordable(told) for seed, told in seeds.items()}
    if attack == "pruning_aware":
        for seed, told in seeds.items():
            stops[seed] = min(stops[seed], int(told["stop"]), key=told["backdoor_success"].__getitem__)
    success, accuracy = (
        [(told[name][0], told[name][stops[seed]]) for seed, told in seeds.items()]
        for name in ("backdoor_success", "clean_accuracy")
    )
    before, after = (statistics.fmean(values) for values in zip(*success, strict=True))
    loss = statistics.fmean(start - end for start, end in accuracy)
    share = after / before if before else float("nan")
    left = f"{share:.1%}" if share == share else "undefined"
    told = f"bd {number(before)} → {number(after)} ({left}), cl {points(-loss)}"
    if early := [seed for seed, stop in stops.items() if stop < seeds[seed]["stop"]]:
        told += f"; {_named(early)} before the stop, which cost more"
    at = f"at most {100 * MAX_PRUNING_LOSS:g} points of cl lost"
    if attack == "baseline":
        required, passed = "at most a third", _at_least(-share, -MAX_BASELINE_SHARE)
    else:
        required, passed = f"at least {MIN_AWARE_SHARE:.0%}", _at_least(share, MIN_AWARE_SHARE)
    return "pruning alone", f"bd {required} of its start, {at}", told, passed


def _affordable(told: Mapping[str, Any]) -> int:
    """How many channels the defender prunes, or how many before clean accuracy has lost too much."""
    accuracy = told["clean_accuracy"]
    within = (_at_least(value, accuracy[0] - MAX_PRUNING_LOSS) for value in accuracy)
    affordable = sum(1 for _ in itertools.takewhile(bool, within)) - 1
    return min(int(told["stop"]), affordable)


def _fine_pruning(values: _Values, attack: str) -> Iterator[Line]:
    before, after = values.value("backdoor_success"), values.value("backdoor_success", "fine_pruning")
    starts, left = values.seeds("backdoor_success"), values.seeds("backdoor_success", "fine_pruning")
    if values.targeted:
        short = [seed for seed, one in left.items() if not _at_least(-one, -MAX_SUCCESS)]
        yield _line(
            "fine-pruning: backdoor",
            f"bd ≤ {number(MAX_SUCCESS)}",
            number(after) + _short(short),
            -after,
            -MAX_SUCCESS,
        )
    elif attack == "baseline":
        short = [
            seed for seed, one in left.items() if starts and not _at_least(starts[seed], MIN_REDUCTION * one)
        ]
        told = f"bd {number(before)} → {number(after)}{_short(short)}"
        yield _line(
            "fine-pruning: backdoor",
            f"bd at least {MIN_REDUCTION:g} times lower",
            told,
            before,
            MIN_REDUCTION * after,
        )
    was, became = values.value("clean_accuracy"), values.value("clean_accuracy", "fine_pruning")
    each = values.seeds("clean_accuracy")
    short = [
        seed
        for seed, one in values.seeds("clean_accuracy", "fine_pruning").items()
        if not _at_least(one, each[seed] - MAX_LOSS)
    ]
    yield _line(
        "fine-pruning: accuracy",
        f"cl at most {100 * MAX_LOSS:g} point lost",
        f"{number(was)} → {number(became)} ({points(became - was)}){_short(short)}",
        became,
        was - MAX_LOSS,
    )


def _utility(values: _Values) -> Line:
    """Seed by seed, since both start from one network and are measured on the same inputs."""
    name = "fine-pruning: utility"
    required = "at least fine-tuning's, within the interval of the difference over the seeds"
    ours, theirs = (values.seeds("utility", defence) for defence in ("fine_pruning", "fine_tuning"))
    if not ours or not theirs:
        return name, required, "undefined", None
    differences = [ours[seed] - theirs[seed] for seed in ours]
    mean, half = statistics.fmean(differences), half_width(differences)
    if half is None:
        return name, required, _signed(mean), None
    undecided = half > MAX_UTILITY_WIDTH and mean - half < 0 <= mean + half
    passed = None if undecided else _at_least(mean + half, 0.0)
    return name, required, f"{_signed(mean)} ± {number(half)}", passed


def _line(name: str, required: str, told: str, found: float, least: float) -> Line:
    return name, required, told, _at_least(found, least)


def _at_least(found: float, least: float) -> bool | None:
    """Whether ``found`` reaches ``least``, but for rounding; None for NaN."""
    return None if found != found or least != least else found >= least - 1e-9


def _short(seeds: Sequence[str]) -> str:
    """Which seeds fall short, to be put behind a mean."""
    return f"; not in {_named(seeds)}" if seeds else ""


def _named(seeds: Sequence[str]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"


def _signed(difference: float) -> str:
    return f"{'+' if difference >= 0 else ''}{number(difference)}"


def points(difference: float) -> str:
    """A difference of rates: ``+1.2 points``, never -0.0."""
    return f"{round(100 * difference, 1) + 0.0:+.1f} points"
