"""Progress on stderr: how far, how long still."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from fineprune.data.batches import SplitSamples, in_order
from fineprune.data.format import Dataset

T = TypeVar("T")


def progress(items: Iterable[T], *, total: int, name: str, unit: str) -> Iterator[T]:
    """The items, with a bar of elapsed and remaining time; a line every 10 s where stderr is no terminal."""
    from tqdm import tqdm

    interactive = sys.stderr.isatty()
    yield from tqdm(
        items,
        total=total,
        desc=name,
        unit=unit,
        mininterval=0.1 if interactive else 10,
        ascii=not interactive,
        dynamic_ncols=True,
        file=sys.stderr,
    )


def split_batches(
    dataset: Dataset, split: str, device: torch.device, batch_size: int, *, name: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a split of a dataset, with progress; memory does not grow with the split."""
    samples = SplitSamples(dataset, split, device)
    steps = -(-len(samples) // batch_size)
    return progress(in_order(samples, batch_size), total=steps, name=name, unit="batch")
