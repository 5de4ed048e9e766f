"""The two tables of the paper with our columns and rows beside its own: what stands in which cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fineprune.data.sources import GENERATED
from fineprune.reporting import table
from fineprune.reporting.table import number
from tables.reference import Paper

ATTACKS = {"baseline": "Baseline attack", "pruning_aware": "Pruning-aware attack"}
DEFENCES = {
    "none": "no defence",
    "pruning": "pruning",
    "fine_tuning": "fine-tuning",
    "fine_pruning": "fine-pruning",
}
TERMS = (
    "cl: clean inputs that get their true class. bd: targeted, triggered inputs of other classes that get "
    "the attacker's label; untargeted, one minus the accuracy on triggered inputs over that on clean ones. "
    "AP@0.5: a detector's average precision on clean inputs, as in VOC, at an overlap (IoU) of at least "
    "0.5. Control: a network that was never poisoned, under the same trigger and the same defence."
)
FIRST = ("clean_accuracy", "backdoor_success", "average_precision")
SECOND = ("utility",)


@dataclass(frozen=True)
class Entry:
    """A cell: a value, its interval if it is ours, its grade if it is the paper's, and notes on it.

    ``seeds`` says ``1 seed`` where there are fewer than the profile has.
    """

    value: float
    interval: tuple[float, float] | None = None
    seeds: str = ""
    grade: str = ""
    note: str = ""
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table: a metric of the attacked network, of the control, or as the paper has it."""

    metric: str
    source: str
    cells: tuple[Entry | None, ...]

    @property
    def label(self) -> str:
        """What stands at its head: ``bd, paper``."""
        short = (table.COLUMNS | table.DETECTION)[self.metric]
        return short if self.source == "ours" else f"{short}, {self.source}"


@dataclass(frozen=True)
class Group:
    """The lines of one case."""

    case: str
    title: str
    about: str
    marks: tuple[int, ...]
    rows: tuple[Row, ...]


def columns(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Attack and defence of each column."""
    return [(attack, defence) for attack in result["attacks"] for defence in DEFENCES]


def groups(result: Mapping[str, Any], paper: Paper, metrics: Sequence[str]) -> list[Group]:
    """A table: the first with :data:`FIRST`, the second with :data:`SECOND`."""
    return [_group(result, paper, case, metrics) for case in result["cases"]]


def _group(result: Mapping[str, Any], paper: Paper, case: str, metrics: Sequence[str]) -> Group:
    name = paper.study(case)
    study = paper.studies[name] if name else {"title": case}
    own = {(c["network"], c["attack"], c["defence"]): c for c in result["cells"] if c["case"] == case}
    rows = []
    for metric in metrics:
        ours, control = (
            [
                _measured(own.get((network, *column)), metric, len(result["seeds"]))
                for column in columns(result)
            ]
            for network in ("attacked", "control")
        )
        stated = [_stated(paper, name, column, metric) for column in columns(result)]
        for source, cells in (("ours", ours), ("paper", stated), ("control", control)):
            if any(cells):
                rows.append(Row(metric, source, tuple(cells)))
    theirs = f"in the paper {study['network']}; {study['trigger']}" if name else ""
    about = "; ".join(text for text in (_data(result, case), theirs) if text)
    marks = paper.marks(study=name, **({"table": 2} if metrics == SECOND else {}))
    return Group(case, study["title"], about, tuple(marks), tuple(rows))


def _data(result: Mapping[str, Any], case: str) -> str:
    """Whether the case's data is real; nothing where nobody has seen it yet."""
    if case not in result["data"]:
        return ""
    return "synthetic data" if result["data"][case]["source"] == GENERATED else "real data"


def _measured(cell: Mapping[str, Any] | None, metric: str, wanted: int) -> Entry | None:
    found = cell["measured"][metric] if cell else None
    if found is None:
        return None
    there = len(found["seeds"])
    few = f"{there} seed{'s' * (there > 1)}" if there < wanted else ""
    return Entry(found["value"], (found["low"], found["high"]), few)


def _stated(paper: Paper, study: str | None, column: tuple[str, str], metric: str) -> Entry | None:
    attack, defence = column
    found = paper.figure(study, attack, defence, metric)
    if found is None:
        return None
    at = {"study": study, "attack": attack, "defence": defence}
    marks = paper.marks(**at, **({"table": 2} if metric in SECOND else {"metric": metric}))
    return Entry(found["value"], grade=found["grade"], note=found["note"], marks=tuple(marks))


def as_markdown(result: Mapping[str, Any], paper: Paper, metrics: Sequence[str]) -> str:
    """A table in Markdown; small digits are the numbers of the contradictions."""
    own = metrics == FIRST  # what contradicts a column stands in the first table
    head = [
        f"{_short(a)}: {DEFENCES[d]}{raised(paper.marks(attack=a, defence=d)) if own else ''}"
        for a, d in columns(result)
    ]
    lines = [["", *head]]
    for group in groups(result, paper, metrics):
        lines.append([f"**{group.title}**{raised(group.marks)} ({group.case})", *[""] * len(head)])
        lines += [
            [row.label, *(_text(entry, bold=row.source == "ours") for entry in row.cells)]
            for row in group.rows
        ]
    return table.as_markdown(lines)


def raised(numbers: Sequence[int]) -> str:
    """The numbers as superscripts: ``¹`` or ``¹˒²``."""
    return "˒".join(str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")) for number in numbers)


def _short(attack: str) -> str:
    return ATTACKS[attack].removesuffix(" attack")


def _text(entry: Entry | None, *, bold: bool) -> str:
    if entry is None:
        return ""
    value = f"**{number(entry.value)}**" if bold else number(entry.value)
    if entry.interval:
        return f"{value} [{number(entry.interval[0])}, {number(entry.interval[1])}] {entry.seeds}".rstrip()
    return f"{value} {entry.grade}{raised(entry.marks)}"
