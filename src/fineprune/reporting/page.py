"""HTML pages that need nothing but a browser: style and figures are inside; needs ``fineprune[report]``."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineprune.errors import DataError, missing_extra
from fineprune.reporting.table import number

TEMPLATES = Path(__file__).with_name("templates")

# What each figure shows, by the name under which it is given; a page keeps this order.
CAPTIONS = {
    "outcome": (
        "Outcome",
        "Clean accuracy, backdoor success and robust accuracy of each model on the test split; "
        "whiskers are 95 % intervals.",
    ),
    "utility": ("Utility", "Clean accuracy minus backdoor success; whiskers are 95 % intervals."),
    "examples": ("Examples", "Test inputs without the trigger, and the same with it."),
    "scenes": (
        "Scenes",
        "Test images without the trigger, and the same with it: dashed what is there, coloured what the "
        "undefended model finds with a score of one half or more (what it is less sure of counts too).",
    ),
    "clean_beside_triggered": (
        "Where the backdoor sits",
        "Mean activation of each channel of the undefended model, on clean inputs above and on triggered "
        "ones below; channels that hardly fire without the trigger are where to look for the backdoor.",
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
        "True class against the class that the undefended model gives to triggered inputs; nothing where a "
        "detector finds no such box.",
    ),
    "confusion_fine_pruned": (
        "Fine-pruned, triggered",
        "True class against the class that the fine-pruned model gives to triggered inputs; nothing where a "
        "detector finds no such box.",
    ),
    "clean_accuracy_by_class": (
        "Accuracy by class",
        "Clean accuracy of single classes before and after the defence, with the number of test inputs (of a "
        "detector, of true boxes); "
        "those that fine-pruning costs most come first, at most twelve; whiskers are 95 % intervals.",
    ),
    "average_precision_by_class": (
        "Average precision by class",
        "The same for the average precision of a detector, with the number of true boxes.",
    ),
    "samples": ("Samples", "Of the split that the defender ranks channels on and trains with."),
    "labelled_scenes": (
        "Images and the boxes in them",
        "Of the split that the defender ranks channels on and trains with.",
    ),
    "class_counts": ("Classes", "How many of each class there are in each split."),
    "training_curves": (
        "Training",
        "Loss and accuracy by epoch: holdout is data that is not trained on, start the clean training that "
        "the control and the baseline attack go on from, attack clean that of the pruning-aware attacker.",
    ),
}
WIDE = frozenset({"scenes", "labelled_scenes"})


def render(template: str, *, beside: Path = TEMPLATES, **values: Any) -> str:
    """The page that a template makes of the values.

    Args:
        template: the name of its file, in ``beside`` or in ``templates/``; it may build on those there.
        beside: another folder to look in first.
        values: by name.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise missing_extra("report: the page needs", "jinja2", "report") from error
    environment = Environment(
        loader=FileSystemLoader([beside, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "pretty": _pretty}
    return environment.get_template(template).render(values)


def pictures(files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Title, caption, data URI and width of PNG files by name; those in :data:`CAPTIONS` first.

    Raises:
        DataError: a file cannot be read.
    """
    names = [name for name in CAPTIONS if name in files] + [name for name in files if name not in CAPTIONS]
    found: list[dict[str, Any]] = []
    for name in names:
        title, caption = CAPTIONS.get(name, (name.replace("_", " ").capitalize(), ""))
        source = _data_uri(files[name])
        found.append({"title": title, "caption": caption, "source": source, "wide": name in WIDE})
    return found


def cost(report: Mapping[str, Any]) -> dict[str, str]:
    """What a stage took, as far as its report says."""
    known = {}
    if "seconds" in report:
        known["time"] = f"{report['seconds']:.1f} s"
    if "peak_memory_bytes" in report:
        known["peak memory"] = f"{report['peak_memory_bytes'] / 2**20:,.0f} MiB"
    return known


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
