"""What the benchmarks run on: networks with random weights, random inputs, and the stopwatch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fineprune import runtime
from fineprune.data.batches import Batch
from fineprune.data.inputs import InputSpec
from fineprune.models import build
from fineprune.models.base import Network, NetworkSpec

CLASSES = tuple("0123456789")
AUDIO = InputSpec("audio", (8320,), "int16", low=-32768, high=32767, sample_rate=8000)
IMAGE = InputSpec("image", (3, 32, 32), "uint8", low=0, high=255, sample_rate=None)
FACE = InputSpec("image", (3, 55, 47), "uint8", low=0, high=255, sample_rate=None)
SPECTROGRAM = {"frame": 256, "hop": 128, "bins": 128, "window": "hann", "scale": "decibel"}
NETWORKS: dict[str, tuple[InputSpec, dict[str, Any]]] = {
    "speech_net": (
        AUDIO,
        {"spectrogram": SPECTROGRAM, "channels": 1, "kernel": 7, "stride": 2, "width": 1.0, "dropout": 0.5},
    ),
    "preact_resnet18": (IMAGE, {"width": 64}),
    "deep_id": (FACE, {"width": 1.0}),
}
ROUNDS = 5


@dataclass(frozen=True)
class Rows:
    """Labelled raw inputs on the device, drawn as :class:`fineprune.data.batches.Samples` are.

    Attributes:
        inputs: (N, *shape) raw inputs.
        labels: int64 (N,), or (N, K) for a detector.
        places: float32 boxes (N, K, 4) for a detector; else None.
    """

    inputs: Tensor
    labels: Tensor
    places: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, positions: Tensor) -> Batch:
        """See :class:`fineprune.data.batches.Samples`."""
        places = None if self.places is None else self.places[positions]
        return Batch(self.inputs[positions], self.labels[positions], places)


def noise(spec: InputSpec, count: int, device: torch.device) -> Rows:
    """Random raw inputs with random labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, *spec.shape)
    inputs = torch.randint(spec.low, spec.high + 1, shape, generator=generator)
    labels = torch.randint(len(CLASSES), (count,), generator=generator)
    return Rows(inputs.to(device, dtype=getattr(torch, spec.dtype)), labels.to(device))


def network_of(name: str, device: torch.device) -> Network:
    """The architecture at full width with random weights, placed for speed, in evaluation mode."""
    spec, arguments = NETWORKS[name]
    torch.manual_seed(0)
    moments = (128.0,) * 3, (64.0,) * 3
    network = build(NetworkSpec(name, arguments, spec, CLASSES, *moments))
    runtime.place(network, device)
    return network.eval()


def in_turns(*programs: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """The median seconds of each program, run in turns after one warm-up."""
    times: list[list[float]] = [[] for _ in programs]
    for round_number in range(rounds + 1):
        for program, taken in zip(programs, times, strict=True):
            started = time.perf_counter()
            program()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_number:
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]
