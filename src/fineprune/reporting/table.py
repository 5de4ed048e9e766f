"""The table of all models: its rows, its columns, its numbers; and how it looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fineprune.errors import DataError

ROWS = {
    "control": "control",
    "undefended": "undefended",
    "pruned": "pruned",
    "fine_tuned": "fine-tuned",
    "fine_pruned": "fine-pruned",
    "control_pruned": "control, pruned",
    "control_fine_tuned": "control, fine-tuned",
    "control_fine_pruned": "control, fine-pruned",
}
COLUMNS = {
    "clean_accuracy": "cl",
    "backdoor_success": "bd",
    "robust_accuracy": "RA",
    "utility": "utility",
}
DETECTION = {"average_precision": "AP@0.5"}
"""Columns that only the models of a detection task have."""
REQUIRED = ("control", "undefended", "pruned", "fine_tuned", "fine_pruned")

Models = Mapping[str, Mapping[str, Any]]
"""``models`` of evaluate's report: ``{model: asdict(ModelMetrics(…))}``, and more entries per model."""


def rows(models: Models) -> dict[str, str]:
    """The names of the models in the order of the table, each with what to call it.

    Models that the table does not know follow in the order given, under their own names.

    Raises:
        DataError: one of :data:`REQUIRED` is missing.
    """
    missing = [name for name in REQUIRED if name not in models]
    if missing:
        raise DataError(f"models: expected {', '.join(REQUIRED)}, found no {', '.join(missing)}")
    known = {name: label for name, label in ROWS.items() if name in models}
    return known | {name: name.replace("_", " ") for name in models if name not in ROWS}


def columns(models: Models) -> dict[str, str]:
    """The columns of these models, each with its heading: :data:`COLUMNS`, and others where any has them."""
    has = {name for measured in models.values() for name in measured}
    return COLUMNS | {name: heading for name, heading in DETECTION.items() if name in has}


def number(value: float) -> str:
    """Three decimals without the leading zero: ``.983``, ``1.000``, ``-.064``; ``undefined`` for NaN."""
    if value != value:
        return "undefined"
    text = f"{value:.3f}"
    if text == "-0.000":
        return ".000"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def interval(estimate: Mapping[str, Any] | None) -> str:
    """``.983 [.968, .991]`` for an estimate's plain values, ``undefined`` for None."""
    if estimate is None:
        return "undefined"
    value, low, high = (number(estimate[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def text_table(models: Models) -> str:
    """The table in plain text, aligned, one line per model below a header line.

    Raises:
        DataError: a required model is missing.
    """
    shown = columns(models)
    lines = [["model", *shown.values()]]
    for name, label in rows(models).items():
        lines.append([label, *(interval(models[name].get(column)) for column in shown)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table, its header first, in Markdown."""
    told = [list(lines[0]), ["---"] * len(lines[0]), *map(list, lines[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in told) + "\n"
