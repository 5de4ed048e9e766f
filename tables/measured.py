"""What the cells left: evaluate's reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fineprune.errors import DataError
from fineprune.files import as_mapping
from fineprune.lineage import REPORT, read_report
from fineprune.reporting.table import rows
from tables.profiles import Cell, Profile

Reports = Mapping[Cell, Mapping[str, Any]]
NEEDED = ("dataset", "config", "attack_details", "pruning", "activations")


def read_cells(profile: Profile, folder: Path, *, undone: Collection[str] = ()) -> dict[Cell, dict[str, Any]]:
    """Evaluate's report of every cell that has one.

    Args:
        profile: whose cells.
        folder: where the cells lie, ``<case>/<attack>/<seed>/…``.
        undone: cells, as text, whose report is of an earlier state and does not count.

    Raises:
        DataError: a report is damaged, lacks a model or is of another attack or seed; or two seeds of a case
            and an attack are of networks with another number of channels.
    """
    found: dict[Cell, dict[str, Any]] = {}
    pruned: dict[tuple[str, str], int] = {}
    for cell in profile.cells:
        path = folder / cell.case / cell.attack / str(cell.seed) / "evaluate" / REPORT
        if path.exists() and str(cell) not in undone:
            report = read_report(path.parent)
            told = (report.get("attack"), report.get("seed"))
            if told != (cell.attack, cell.seed):
                raise DataError(f"{path}: expected {(cell.attack, cell.seed)}, found {told}")
            rows(as_mapping(report.get("models")))
            if absent := [name for name in NEEDED if not as_mapping(report.get(name))]:
                raise DataError(f"{path}: expected evaluate's report, found no {', '.join(absent)}")
            channels = len(report["pruning"]["order"])
            expected = pruned.setdefault((cell.case, cell.attack), channels)
            if channels != expected:
                raise DataError(
                    f"{path}: expected {expected} channels, as in the seeds before, found {channels}"
                )
            found[cell] = report
    return found
