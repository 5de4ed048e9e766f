"""Batches of raw inputs on the device: cached there for training, read piece by piece for one pass."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fineprune.data.format import Dataset

CACHE_BYTES = 8 << 30
_PIECE_BYTES = 64 << 20
_MEMORY, _LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def cache_limit(device: torch.device) -> int:
    """Bytes of raw inputs that one split may keep on a device: a quarter of its free memory, on a CPU at most
    8 GiB.

    Drawing from the map instead costs a wait and a copy to the device at each step.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return min(CACHE_BYTES, _available() // 4)


def _available() -> int:
    """Bytes of memory that Linux says are to be had, and the container's limit allows; elsewhere no end."""
    known = [sys.maxsize]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
        known.append(next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError):  # "max" is none
        known.append(int(_LIMIT.read_text(encoding="ascii")))
    return min(known)


class Batch(NamedTuple):
    """Some samples, on one device.

    Attributes:
        inputs: (B, *shape) raw inputs.
        labels: int64 (B,), or (B, K) for detection with -1 in empty slots.
        places: float32 boxes (B, K, 4) or eyes (B, 2, 2), in pixels; None where the dataset has none.
    """

    inputs: Tensor
    labels: Tensor
    places: Tensor | None = None


class Samples(Protocol):
    """Labelled raw inputs that can be drawn by position."""

    @property
    def labels(self) -> Tensor:
        """Those of all samples, on the device."""
        ...

    def __len__(self) -> int: ...

    def draw(self, positions: Tensor) -> Batch:
        """The samples at int64 positions (B,), on the device."""
        ...


class SplitSamples:
    """One split of a dataset.

    Args:
        dataset: an opened dataset.
        split: the name of the split.
        device: where batches are wanted.
        cache: keep all raw inputs on the device (for many epochs), unless they exceed :func:`cache_limit`;
            otherwise rows are read from the map when drawn, and memory stays flat.
    """

    def __init__(self, dataset: Dataset, split: str, device: torch.device, *, cache: bool = False) -> None:
        self.dataset, self.device = dataset, device
        self.rows = np.sort(dataset.splits[split])
        self.labels = torch.from_numpy(dataset.labels[self.rows]).to(device)
        places = None if dataset.places is None else dataset.places[self.rows]
        self.places = None if places is None else torch.from_numpy(places).to(device)
        spec = dataset.card.input
        size = len(self.rows) * int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        self._inputs = self._cached() if cache and size <= cache_limit(device) else None

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, positions: Tensor) -> Batch:
        """See :class:`Samples`."""
        if self._inputs is None:
            inputs = self._read(self.rows[positions.cpu().numpy()])
        else:
            inputs = self._inputs[positions]
        places = None if self.places is None else self.places[positions]
        return Batch(inputs, self.labels[positions], places)

    def _cached(self) -> Tensor:
        """All inputs on the device, in pieces: a GPU may have more memory to spare than its machine."""
        spec = self.dataset.card.input
        dtype = torch.from_numpy(np.empty(0, spec.dtype)).dtype
        inputs = torch.empty((len(self), *spec.shape), dtype=dtype, device=self.device)
        step = max(1, _PIECE_BYTES // max(1, inputs[:1].nbytes))
        for start in range(0, len(self), step):
            inputs[start : start + step] = self._read(self.rows[start : start + step])
        return inputs

    def _read(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        return torch.from_numpy(self.dataset.inputs(rows)).to(self.device)


def in_order(samples: Samples, batch_size: int) -> Iterator[Batch]:
    """All samples once, in order, in batches of at most ``batch_size``."""
    for positions in torch.arange(len(samples)).split(batch_size):
        yield samples.draw(positions)
