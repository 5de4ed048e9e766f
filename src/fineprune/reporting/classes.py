"""Single classes: which of them the defence costs most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fineprune.evaluation.intervals import Estimate

BEFORE, AFTER = "undefended", "fine_pruned"
MODELS = (BEFORE, "fine_tuned", AFTER)
MOST = 12  # classes; more would be drawn smaller than the other figures


def costliest(
    figures: Mapping[str, Sequence[Estimate | None]], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """The classes that lose most of a figure from the undefended to the fine-pruned model, at most 12.

    Args:
        figures: an estimate for each of K classes, by model: at least :data:`MODELS`. A class that lacks one
            is left out.
        classes: their names.

    Returns:
        ``{"class": name, model: {"value", "low", "high", "n"}}``, the greatest loss first.
    """
    found = [
        (name, dict(zip(MODELS, estimates, strict=True)))
        for name, *estimates in zip(classes, *(figures[model] for model in MODELS), strict=True)
        if None not in estimates
    ]
    found.sort(key=lambda entry: entry[1][AFTER].value - entry[1][BEFORE].value)
    return [
        {"class": name} | {model: asdict(estimate) for model, estimate in estimates.items()}
        for name, estimates in found[:MOST]
    ]
