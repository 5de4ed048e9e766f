"""The pictures of a dataset: some of its samples, and how many of each class there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fineprune.data.format import SPLITS, Dataset
from fineprune.reporting import figures
from fineprune.reporting.drawing import viewable

SHOWN = "defender_fit"  # nothing of test is shown
SAMPLES, SCENES = 10, 3

Array = npt.NDArray[Any]


def draw(folder: Path, dataset: Dataset) -> None:
    """Both figures of the dataset's page, into a folder that is there."""
    classes = dataset.card.classes
    counts = {name: _counts(dataset.labels[dataset.splits[name]], len(classes)) for name in SPLITS}
    detection = dataset.card.task == "detection"
    figures.class_counts(folder / "class_counts.png", counts, classes, "objects" if detection else "samples")
    rows = np.sort(dataset.splits[SHOWN])
    rows = _some_scenes(dataset, rows) if detection else _some_samples(dataset, rows)
    spec, labels = dataset.card.input, dataset.labels[rows]
    inputs = viewable(dataset.inputs(rows), spec)
    if dataset.places is not None and detection:
        truth = dataset.places[rows], labels
        figures.labelled_scenes(folder / "labelled_scenes.png", inputs, truth, classes)
    else:
        figures.samples(folder / "samples.png", inputs, [classes[label] for label in labels])


def _counts(labels: Array, classes: int) -> Array:
    """Samples, or objects in them, of each class; labels are (N,) or (N, K)."""
    return np.bincount(labels[labels >= 0], minlength=classes)


def _some_samples(dataset: Dataset, rows: Array) -> Array:
    """Of ten classes, spread over all, one sample each; of fewer classes several each."""
    kinds = len(dataset.card.classes)
    shown = np.linspace(0, kinds - 1, min(kinds, SAMPLES)).astype(int)
    of_class = (rows[dataset.labels[rows] == kind] for kind in shown)
    return np.concatenate([found[: max(1, SAMPLES // kinds)] for found in of_class])


def _some_scenes(dataset: Dataset, rows: Array) -> Array:
    """Three images, spread over those with an object in them."""
    rows = rows[(dataset.labels[rows] >= 0).any(1)]
    chosen: Array = rows[np.linspace(0, len(rows) - 1, min(SCENES, len(rows))).astype(int)]
    return chosen
