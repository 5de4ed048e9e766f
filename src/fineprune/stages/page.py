"""A stage's report as one HTML page: its numbers, its figures, what it warns of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineprune.reporting import page
from fineprune.stages import STAGES

PAGE = "page.html"
VIEWS = {"page": PAGE}
# What a number is, where its name does not say it.
NOTES = {
    "test_repeats": "test inputs that are, byte for byte, in another split too, or in test before",
    "dormant_channels": "never active on the defender's data",
    "accuracy_unpruned": "on the defender's data",
    "first_violation": "with so many channels pruned accuracy first drops too far",
    "decoys": "pruned channels that were put back",
    "decoys_largest_preactivation": "below zero: none ever fires",
    "decoys_largest_difference": "between logits with and without them, as a share of the largest",
    "wanted_held_out_clean_accuracy": "what each round is asked for",
    "wanted_held_out_backdoor_success": "what each round is asked for",
    "best_epoch": "from stop.min_epochs on, the lowest loss on data held out",
}


def write_page(report: Mapping[str, Any], folder: Path, inputs: Mapping[str, Path]) -> None:
    """Write the finished report, with the pictures beside it, as ``page.html``; the model by its path."""
    figures = {path.stem: path for path in sorted(folder.glob("*.png"))}
    html = page.render(
        "stage.html.j2",
        report=report,
        purpose=STAGES[report["stage"]],
        model=Path(*inputs["model"].parts[-3:]) if "model" in inputs else None,
        numbers={_noted(name): _short(value) for name, value in report["numbers"].items()},
        figures=page.pictures(figures),
        cost=page.cost(report),
    )
    (folder / PAGE).write_text(html, encoding="utf-8")


def _noted(name: str) -> str:
    return f"{name} ({NOTES[name]})" if name in NOTES else name


def _short(value: float) -> str:
    """A count as it is, anything else to four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
