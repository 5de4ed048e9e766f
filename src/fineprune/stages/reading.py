"""What stages read: a model that fits the data, and the inputs of a split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from fineprune.data.batches import Batch, SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.models.base import Network
from fineprune.models.format import check_fits, load_model
from fineprune.progress import progress
from fineprune.runtime import place


def open_model(path: Path, dataset: Dataset, device: torch.device) -> Network:
    """The model in a folder, on the device.

    Raises:
        ModelError: the folder holds no model, or one for other inputs or classes than the dataset's.
    """
    network = load_model(path)
    check_fits(network, dataset.card, path)
    place(network, device)
    return network


def split_batches(
    dataset: Dataset, split: str, device: torch.device, batch_size: int, *, name: str
) -> Iterator[Batch]:
    """One pass over a split of a dataset, with progress; memory does not grow with the split."""
    samples = SplitSamples(dataset, split, device)
    steps = -(-len(samples) // batch_size)
    return progress(in_order(samples, batch_size), total=steps, name=name, unit="batch")
