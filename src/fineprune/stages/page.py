"""A stage's report as one HTML page: its numbers, its figures, what it warns of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineprune.reporting import page
from fineprune.stages import STAGES

PAGE = "page.html"
VIEWS = {"page": PAGE}


def write_page(report: Mapping[str, Any], folder: Path) -> None:
    """Write the finished report, with the pictures beside it, as ``page.html``."""
    figures = {path.stem: path for path in sorted(folder.glob("*.png"))}
    html = page.render(
        "stage.html.j2",
        report=report,
        purpose=STAGES[report["stage"]],
        numbers={name: _short(value) for name, value in report["numbers"].items()},
        figures=page.pictures(figures),
        cost=page.cost(report),
    )
    (folder / PAGE).write_text(html, encoding="utf-8")


def _short(value: float) -> str:
    """A count as it is, anything else to four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
