"""The report for people, made from evaluate's report: it states what was measured and gives no verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineprune.reporting import page
from fineprune.reporting.table import columns, rows

COLUMN_HELP = {
    "clean_accuracy": "clean inputs that get their true class",
    "backdoor_success": "triggered inputs that get the attacker's label, of those of other classes; "
    "untargeted: how much of the clean accuracy the trigger takes away",
    "robust_accuracy": "triggered inputs that get their true class, of the same inputs",
    "utility": "cl − bd",
    "average_precision": "detections on clean inputs, boxes that overlap by half",
}


def render(report: Mapping[str, Any], figures: Mapping[str, Path]) -> str:
    """The page, as HTML with its style and its figures inside.

    Args:
        report: evaluate's report, as ``report.schema.json`` describes it; ``outputs``, ``numbers`` and
            ``series`` are not read, ``seconds`` and ``peak_memory_bytes`` may be missing.
        figures: PNG files by name; those in :data:`fineprune.reporting.page.CAPTIONS` come first and
            with a caption.

    Raises:
        DataError: a required model or a figure is missing.
        MissingExtraError: Jinja is not installed.
    """
    return page.render(
        "report.html.j2",
        report=report,
        rows=rows(report["models"]),
        columns=columns(report["models"]),
        help=COLUMN_HELP,
        figures=page.pictures(figures),
        cost=page.cost(report),
    )
