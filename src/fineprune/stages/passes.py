"""Passes over a dataset, with progress."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fineprune.data.batches import Batch, SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.progress import progress


def split_batches(
    dataset: Dataset, split: str, device: torch.device, batch_size: int, *, name: str
) -> Iterator[Batch]:
    """One pass over a split of a dataset, with progress; memory does not grow with the split."""
    samples = SplitSamples(dataset, split, device)
    steps = -(-len(samples) // batch_size)
    return progress(in_order(samples, batch_size), total=steps, name=name, unit="batch")
