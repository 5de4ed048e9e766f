"""The pictures of an evaluation, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fineprune.evaluation.average_precision import Detected
from fineprune.evaluation.measurement import Predictions, TestBed
from fineprune.evaluation.metrics import confusion
from fineprune.evaluation.outcomes import Classes
from fineprune.models.base import NOT_FINITE, NOTHING
from fineprune.reporting import figures
from fineprune.reporting.drawing import viewable

CONFUSION_CLASSES = 50  # more would be neither readable nor small: the attacker's column is then a thin line
EXAMPLES, SCENES = 5, 3

Array = npt.NDArray[Any]


def draw(
    folder: Path,
    bed: TestBed,
    said: Mapping[str, Predictions],
    models: Mapping[str, Mapping[str, Any]],
    pruning: Mapping[str, Any],
    activations: Mapping[str, Sequence[float]],
    by_class: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """All figures of the report.

    Args:
        folder: to make.
        bed: what was measured on.
        said: by model.
        models: the figures of every model, as the report has them.
        pruning: ``order``, ``stop`` and ``curve`` of the undefended network on the test split.
        activations: mean activation of its channels, ``clean`` and ``triggered``.
        by_class: figures of single classes, by the figure's name.
    """
    folder.mkdir()
    order, stop = pruning["order"], pruning["stop"]
    clean, triggered = activations["clean"], activations["triggered"]
    figures.outcome_bars(folder / "outcome.png", models)
    figures.utility_bars(folder / "utility.png", models)
    figures.pruning_curve(folder / "test_curve.png", pruning["curve"], stop)
    figures.clean_beside_triggered(folder / "clean_beside_triggered.png", clean, triggered, order, stop=stop)
    for name, found in by_class.items():
        figures.by_class(folder / f"{name}_by_class.png", found, name.replace("_", " "))
    _draw_examples(folder, bed, said["undefended"])
    for name in ("undefended", "fine_pruned") if len(bed.classes) <= CONFUSION_CLASSES else ():
        figures.confusion(folder / f"confusion_{name}.png", _confusion(bed, said[name]), bed.classes)


def shown_confusion(bed: TestBed, said: Predictions) -> dict[str, Any] | None:
    """The confusion matrix on triggered inputs for the report; None where nobody could read it."""
    if len(bed.classes) > CONFUSION_CLASSES:
        return None
    return {"classes": list(bed.classes), "rows": _confusion(bed, said).tolist()}


def _confusion(bed: TestBed, said: Predictions) -> Classes:
    """How often each true class (rows) gets each class, or nothing, on triggered inputs."""
    known = said.triggered != NOT_FINITE
    nothing = None if said.found is None else NOTHING
    return confusion(bed.truth.labels[known], said.triggered[known], len(bed.classes), nothing)


def _draw_examples(folder: Path, bed: TestBed, said: Predictions) -> None:
    """Some attacked test inputs without and with the trigger, and what the model says of them."""
    rows = bed.attacked_positions()
    count = EXAMPLES if said.found is None else SCENES
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    batch = bed.samples.draw(torch.from_numpy(rows))
    clean, triggered = (
        viewable(inputs.cpu().numpy(), bed.card.input)
        for inputs in (batch.inputs, bed.trigger(batch.inputs, batch.places))
    )
    if said.found is None or said.found_triggered is None or batch.places is None:
        captions = [(_says(bed, said.clean[i]), _says(bed, said.triggered[i])) for i in rows]
        figures.examples(folder / "examples.png", clean, triggered, captions)
        return
    truth = batch.places.cpu().numpy(), batch.labels.cpu().numpy()
    found, found_triggered = (
        Detected(*(part[rows] for part in whole)) for whole in (said.found, said.found_triggered)
    )
    figures.scenes(folder / "scenes.png", clean, triggered, truth, (found, found_triggered), bed.classes)


def _says(bed: TestBed, label: int) -> str:
    return "NaN or infinite" if label == NOT_FINITE else f"says {bed.classes[label]}"
