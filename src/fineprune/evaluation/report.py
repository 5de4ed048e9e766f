"""The report for people: one HTML file that needs nothing but a browser, made from evaluate's report.

It states what was measured and gives no verdict; needs the extra ``fineprune[report]``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineprune.errors import DataError, MissingExtraError
from fineprune.evaluation.table import COLUMNS, number, rows

TEMPLATE = Path(__file__).with_name("template.html.j2")

# What each figure shows, by the name under which it is given; the page keeps this order.
CAPTIONS = {
    "outcome": (
        "Outcome",
        "Clean accuracy, backdoor success and robust accuracy of each model on the test split; "
        "whiskers are 95 % intervals.",
    ),
    "utility": ("Utility", "Clean accuracy minus backdoor success; whiskers are 95 % intervals."),
    "examples": ("Examples", "Test inputs without the trigger, and the same with it."),
    "clean_beside_triggered": (
        "Where the backdoor sits",
        "Mean activation of each channel of the undefended model, on clean inputs above and on triggered "
        "ones below; channels that only the trigger fires are where to look for the backdoor.",
    ),
    "activation_profile": (
        "Activation profile",
        "Mean activation of each channel on the defender's clean data, which decides the pruning order.",
    ),
    "pruning_curve": (
        "Pruning on the defender's data",
        "Clean accuracy as channels are removed; the rule keeps the last model within the tolerance.",
    ),
    "test_curve": (
        "Pruning on the test split",
        "The same channels removed in the same order, measured with the trigger, which the defender "
        "does not know.",
    ),
    "confusion_undefended": (
        "Undefended, triggered",
        "True class against the class that the undefended model gives to triggered inputs.",
    ),
    "confusion_fine_pruned": (
        "Fine-pruned, triggered",
        "True class against the class that the fine-pruned model gives to triggered inputs.",
    ),
    "training_curves": ("Training", "Loss and accuracy by epoch."),
}

COLUMN_HELP = {
    "clean_accuracy": "clean inputs that get their true class",
    "backdoor_success": "how often the trigger gets the attacker what they want",
    "robust_accuracy": "triggered inputs that get their true class",
    "utility": "cl − bd",
}


def render(report: Mapping[str, Any], figures: Mapping[str, Path]) -> str:
    """The page, as HTML with its style and its figures inside.

    Args:
        report: evaluate's report, as ``report.schema.json`` describes it; ``outputs``, ``numbers`` and
            ``series`` are not read, ``seconds``, ``peak_memory_bytes`` and ``thresholds`` may be missing.
        figures: PNG files by name; those in :data:`CAPTIONS` come first and with a caption.

    Raises:
        DataError: a required model or a figure is missing.
        MissingExtraError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("report: the page needs jinja2: pip install 'fineprune[report]'") from error
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "pretty": _pretty}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return page.render(
        report=report,
        rows=rows(report["models"]),
        columns=COLUMNS,
        help=COLUMN_HELP,
        figures=_pictures(figures),
        cost=_cost(report),
    )


def _pictures(figures: Mapping[str, Path]) -> list[dict[str, str]]:
    """Title, caption and data URI of each figure, in the order of the page."""
    names = [name for name in CAPTIONS if name in figures] + [
        name for name in figures if name not in CAPTIONS
    ]
    pictures = []
    for name in names:
        title, caption = CAPTIONS.get(name, (name.replace("_", " ").capitalize(), ""))
        pictures.append({"title": title, "caption": caption, "source": _data_uri(figures[name])})
    return pictures


def _cost(report: Mapping[str, Any]) -> dict[str, str]:
    """What the evaluation took, as far as it is known."""
    cost = {}
    if "seconds" in report:
        cost["time"] = f"{report['seconds']:.1f} s"
    if "peak_memory_bytes" in report:
        cost["peak memory"] = f"{report['peak_memory_bytes'] / 2**20:,.0f} MiB"
    return cost


def _data_uri(path: Path) -> str:
    try:
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    except OSError as error:
        raise DataError(f"{path}: cannot read the figure: {error.strerror}") from error


def _pretty(value: Any) -> str:
    """A value for the eye: strings and numbers as they are, lists and mappings as indented JSON."""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False)
