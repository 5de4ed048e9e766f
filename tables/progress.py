"""How far the tables are and how long they still take, from what each stage took so far."""

from __future__ import annotations

import contextlib
import csv
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from fineprune.progress import bar
from tables.dvc_output import Doing
from tables.profiles import Step

FIELDS = ("where", "step", "seconds", "core_seconds")
Key = tuple[str, str]
_PAUSE = 60.0  # seconds between lines where stderr is no terminal


class Durations:
    """How long steps take: as with this case and attack, with this case, as elsewhere."""

    def __init__(self) -> None:
        self._known: dict[Key, list[float]] = defaultdict(list)

    def learn(self, where: str, label: str, seconds: float) -> None:
        """Take in what a step took."""
        for key in _keys(where, label):
            self._known[key].append(seconds)

    def expect(self, where: str, label: str, *, elsewhere: bool = True) -> float | None:
        """The mean of the closest; None if none like it is known, in this case or ``elsewhere``."""
        for key in _keys(where, label):
            if self._known[key] and (elsewhere or key[0]):
                return statistics.fmean(self._known[key])
        return None


class Clock(Durations):
    """What each stage took, in this run and in those before it.

    Args:
        file: the record, a line for each step that was run.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        if file.exists():
            with file.open(newline="", encoding="utf-8") as lines:
                for row in csv.DictReader(lines):
                    with contextlib.suppress(KeyError, TypeError, ValueError):  # a line that was cut short
                        self.learn(row["where"], row["step"], float(row["seconds"]))

    def add(self, where: str, label: str, seconds: float, core_seconds: float) -> None:
        """Record a step."""
        self.learn(where, label, seconds)
        new = not self._file.exists()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            if new:
                writer.writerow(FIELDS)
            writer.writerow([where, label, f"{seconds:.1f}", f"{core_seconds:.1f}"])


class Board:
    """A bar over all steps, with the time left and what is being run.

    Args:
        steps: what there is to do, by where.
        jobs: how many run at a time.
        clock: what steps took before.
    """

    def __init__(self, steps: Mapping[str, list[Step]], jobs: int, clock: Clock) -> None:
        self._open = {(where, step.label) for where, several in steps.items() for step in several}
        self._begun: dict[Key, tuple[float, float]] = {}
        self._doing: dict[str, Doing] = {}
        self._jobs, self._clock = jobs, clock
        interactive = sys.stderr.isatty()
        self._pause, self._shown = 0.0 if interactive else _PAUSE, time.monotonic()
        shown = "{l_bar}{bar}| {n_fmt}/{total_fmt} stages, {elapsed} so far{postfix}"
        self._bar = bar(total=len(self._open), bar_format=shown, desc="tables")
        below = range(1, jobs + 1) if interactive else ()
        self._lines = [bar(bar_format="  {desc}", position=row, leave=False) for row in below]

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._lines, self._bar):
            each.close()

    def begun(self, where: str, step: Step, used: float) -> None:
        """A step was started, when its job had used so many core seconds."""
        self._begun[where, step.label] = time.monotonic(), used
        self._doing.pop(where, None)

    def done(self, where: str, step: Step, used: float) -> None:
        """A step is done, now or before."""
        if begun := self._begun.pop((where, step.label), None):
            self._clock.add(where, step.label, time.monotonic() - begun[0], used - begun[1])
        if (where, step.label) in self._open:  # who is told twice counts once
            self._open.remove((where, step.label))
            self._tell()
            self._bar.update()

    def dropped(self, where: str, steps: list[Step]) -> None:
        """Steps that will not be run."""
        for step in steps:
            self._begun.pop((where, step.label), None)
            if (where, step.label) in self._open:
                self._open.remove((where, step.label))
                self._bar.total -= 1
        self._bar.refresh()

    def tick(self, doing: Mapping[str, Doing]) -> None:
        """Tell the time that is left, and how far the steps that are being run say that they are."""
        self._doing = dict(doing)
        self._tell()
        if time.monotonic() - self._shown >= self._pause:
            self._shown = time.monotonic()
            self._bar.refresh()

    def left(self) -> str:
        """``12 min left``, by other cases' times where this case has none of its own for a step to come; at
        least so many, or nothing, where a step to come was never run in any.
        """
        now, running = time.monotonic(), Durations()
        had = {key: now - begun for key, (begun, _) in self._begun.items()}
        told = {where: own.left for where, own in self._doing.items() if own.left is not None}
        for (where, label), seconds in had.items():
            if where in told:  # of its phase: others may follow
                running.learn(where, label, seconds + told[where])
        left: dict[str, float] = defaultdict(float)
        unknown = guessed = False
        for where, label in self._open:
            known, least = self._clock.expect(where, label), running.expect(where, label, elsewhere=False)
            unknown = unknown or known is None
            guessed = guessed or self._clock.expect(where, label, elsewhere=False) is None
            whole = max(known or 0.0, least or 0.0)
            if (where, label) in had:
                left[where] += max(0.0, whole - had[where, label], told.get(where, 0.0))
            else:
                left[where] += whole
        # The steps of one place are run one after the other, however many jobs there are.
        minutes = max(sum(left.values()) / self._jobs, *left.values(), 0.0) / 60
        text = f"{minutes:.0f} min left" if minutes < 120 else f"{minutes / 60:.1f} h left"
        if unknown:
            return f"at least {text}" if minutes >= 1 else ""
        return f"{text} by other cases' times" if guessed else text

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=sys.stderr)

    def _tell(self) -> None:
        """Put it on the lines below the bar; where stderr is no terminal, at the end of the bar's."""
        running = []
        for where, label in self._begun:
            own = self._doing.get(where)
            running.append(f"{where}: {label}" + (f" ({own.what})" if own else ""))
        for line, text in zip(self._lines, [*running, *[""] * self._jobs], strict=False):
            line.set_description_str(text)
        told = [self.left(), *([] if self._lines else running)]
        self._bar.set_postfix_str("; ".join(filter(None, told)), refresh=False)


def _keys(where: str, label: str) -> tuple[Key, ...]:
    """What a step's time is known by, the closest first: its case and attack, its case, all cases."""
    case, _, rest = where.partition(", ")
    attack = rest.partition(", ")[0]
    return (f"{case}, {attack}", label), (case, label), ("", label)
