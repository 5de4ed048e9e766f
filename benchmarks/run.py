"""``make bench``: what is claimed fast, measured as ratios in one process on the same inputs.

Each pair is timed in turns and the median of the rounds is kept, because shared machines are noisy.
Prints one line per claim and writes ``benchmarks/latest.json``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fineprune import runtime
from fineprune.attacks.labels import OneTarget
from fineprune.attacks.poisoning import PoisonConfig, PoisonedSamples, poison
from fineprune.attacks.triggers import BlendTrigger, make_trigger
from fineprune.data.format import SPLITS, InputSpec, write_dataset
from fineprune.defenses.curve import matches_along_curve
from fineprune.files import write_json
from fineprune.inference import features, predict
from fineprune.models import build
from fineprune.models.base import Network, NetworkSpec
from fineprune.models.format import save_model
from fineprune.training import Recipe, train

CLASSES = tuple("0123456789")
AUDIO = InputSpec("audio", (8320,), "int16", low=-32768, high=32767, sample_rate=8000)
IMAGE = InputSpec("image", (3, 32, 32), "uint8", low=0, high=255, sample_rate=None)
SPECTROGRAM = {"frame": 256, "hop": 128, "bins": 128, "window": "hann", "scale": "decibel"}
NETWORKS = {
    "speech_net": (
        AUDIO,
        {"spectrogram": SPECTROGRAM, "channels": 1, "kernel": 7, "stride": 2, "width": 1.0, "dropout": 0.5},
    ),
    "preact_resnet18": (IMAGE, {"width": 64}),
}
ROUNDS = 5


class Labelled:
    """Random raw inputs with random labels, on the device."""

    def __init__(self, spec: InputSpec, count: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (count, *spec.shape)
        self.inputs = torch.randint(spec.low, spec.high + 1, shape, generator=generator).to(
            device, dtype=getattr(torch, spec.dtype)
        )
        self.labels = torch.randint(len(CLASSES), (count,), generator=generator).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`fineprune.data.batches.Samples`."""
        return self.inputs[positions], self.labels[positions]


def network_of(name: str, device: torch.device, *, seed: int = 0) -> Network:
    """The architecture at full width with random weights, placed for speed, in evaluation mode."""
    spec, arguments = NETWORKS[name]
    torch.manual_seed(seed)
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


def bench_curve(name: str, device: torch.device, *, samples: int, few: int) -> dict[str, float]:
    """The whole pruning curve (clean accuracy, backdoor success, robust accuracy at every channel).

    Against one forward pass over the same clean and triggered inputs; and, on ``few`` of them,
    against a full masked evaluation for each point, whose counts must be the same.
    """
    network = network_of(name, device)
    data = Labelled(NETWORKS[name][0], samples, device)
    trigger = make_trigger(BlendTrigger("blend", 0.1, 0), NETWORKS[name][0])
    triggered = trigger(data.inputs)
    order = torch.randperm(len(network.channels), generator=torch.Generator().manual_seed(0)).tolist()
    wanted = torch.stack([(data.labels + 1) % len(CLASSES), data.labels])

    def batches(inputs: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        pieces = zip(inputs.split(64), targets.split(64, dim=-1), strict=True)
        return [(piece, target) for piece, target in pieces]

    def forward() -> None:
        predict(network, batches(data.inputs, data.labels))
        predict(network, batches(triggered, data.labels))

    def curve(count: int = samples) -> Tensor:
        clean = matches_along_curve(network, order, batches(data.inputs[:count], data.labels[:count]))
        bad = matches_along_curve(network, order, batches(triggered[:count], wanted[:, :count]))
        return torch.cat([clean, bad])

    once, whole = in_turns(forward, curve)
    (small,) = in_turns(lambda: curve(few))
    started = time.perf_counter()
    clean = masked_matches(network, order, data.inputs[:few], data.labels[None, :few])
    bad = masked_matches(network, order, triggered[:few], wanted[:, :few])
    masked = time.perf_counter() - started
    differing = int((torch.cat([clean, bad]) != curve(few)).sum())
    return {
        "curve_over_forward": whole / once,
        "masked_over_curve": masked / small,
        "points": len(order) + 1,
        "differing_counts": differing,
    }


@torch.inference_mode()
def masked_matches(network: Network, order: Sequence[int], inputs: Tensor, targets: Tensor) -> Tensor:
    """The same counts the plain way: a full forward pass for each point, channels set to zero."""
    counts = []
    for pruned in range(len(order) + 1):
        activations = features(network, inputs)
        activations[:, order[:pruned]] = 0
        predictions = network.head(activations).argmax(1)
        counts.append((predictions == targets).sum(1))
    return torch.stack(counts, dim=1).cpu()


class PlainDataset(Dataset[tuple[Tensor, Tensor]]):
    """The same poisoned samples the plain way: one by one, on the CPU, trigger included."""

    def __init__(self, samples: PoisonedSamples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, labels = self.samples.draw(torch.tensor([index]))
        return inputs[0].cpu(), labels[0].cpu()


def plain_epoch(network: Network, samples: PoisonedSamples, recipe: Recipe, device: torch.device) -> None:
    """One epoch of a plain training loop: DataLoader, fp32, contiguous."""
    optimizer = torch.optim.SGD(network.parameters(), recipe.learning_rate, recipe.momentum)
    network.train()
    for inputs, labels in DataLoader(PlainDataset(samples), recipe.batch_size, shuffle=True):
        loss = torch.nn.functional.cross_entropy(network(inputs.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def bench_training(device: torch.device, *, samples: int) -> float:
    """Throughput of the attack stage's training over that of a plain loop, for the speech network."""
    recipe = Recipe("sgd", 1, 32, 0.001, "constant", 0.9, 0.0)
    spec = NETWORKS["speech_net"][0]
    config = PoisonConfig(0.1, "added", ())
    trigger = make_trigger(BlendTrigger("blend", 0.1, 0), spec)
    poisoned = {
        where: poison(
            Labelled(spec, samples, where), trigger, OneTarget("one_target", 0), config, classes=10, seed=0
        )
        for where in {device, torch.device("cpu")}
    }
    fast = network_of("speech_net", device)
    plain = network_of("speech_net", device).to(memory_format=torch.contiguous_format)
    ours, theirs = in_turns(
        lambda: list(train(fast, poisoned[device], recipe, seed=0)),
        lambda: plain_epoch(plain, poisoned[torch.device("cpu")], recipe, device),
    )
    return theirs / ours


def bench_memory(*, samples: int) -> float:
    """Peak memory of profile and prune at 10 N samples over that at N, less 1; the larger of the two."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = (stage_memory(Path(folder) / str(n), n) for n in (samples, 10 * samples))
    return max(after / before for before, after in zip(small, large, strict=True)) - 1


def stage_memory(folder: Path, defender: int) -> tuple[int, int]:
    """Peak resident bytes of the two stages, each in a process of its own, on random images."""
    generator = np.random.default_rng(0)
    count = defender + 300
    sides = np.split(np.arange(count), [100, 100 + defender, 200 + defender])
    card = {
        "name": "bench",
        "input": IMAGE,
        "classes": CLASSES,
        "group": "sample",
        "splits": dict(zip(SPLITS, sides, strict=True)),
        "origin": {},
        "licence": "",
    }
    folder.mkdir()
    images = generator.integers(0, 256, (count, *IMAGE.shape), dtype=np.uint8)
    write_dataset(folder / "dataset", images, np.arange(count) % 10, np.arange(count), card)
    save_model(folder / "model", network_of("preact_resnet18", torch.device("cpu")))
    shared = {"batch_size": 64}
    stage("profile", {"measure": "post_relu", **shared}, folder, ["dataset", "model"], ["profile"])
    stage("prune", {"tolerance": 0.04, **shared}, folder, ["dataset", "model", "profile"], ["pruned"])
    first, second = (
        json.loads((folder / name / "report.json").read_text()) for name in ("profile-report", "prune-report")
    )
    return first["peak_memory_bytes"], second["peak_memory_bytes"]


def stage(name: str, params: dict[str, object], folder: Path, inputs: list[str], outputs: list[str]) -> None:
    """Run a stage's program on paths below ``folder``."""
    paths = [f"--{port}={folder / port}" for port in (*inputs, *outputs)]
    command = [sys.executable, "-m", "fineprune.cli", name, "--params", json.dumps(params), *paths]
    subprocess.run([*command, f"--report={folder / f'{name}-report'}"], check=True, capture_output=True)


def bench_help() -> float:
    """Seconds until ``fineprune --help`` has answered, median of five."""

    def ask() -> None:
        subprocess.run(
            [Path(sys.executable).with_name("fineprune"), "--help"], check=True, capture_output=True
        )

    return in_turns(ask)[0]


def main() -> None:
    """Run every benchmark, print a line for each, write the figures."""
    device = runtime.pick_device()
    precision = "bf16" if runtime.fast_bf16(device) else "fp32"
    print(f"device {device.type}, {precision}, {torch.get_num_threads()} threads")
    curves = {}
    for name in NETWORKS:
        curves[name] = found = bench_curve(name, device, samples=256, few=8)
        print(
            f"{name}: the curve of {found['points']} points takes {found['curve_over_forward']:.3f} "
            f"forward passes; a masked evaluation per point takes {found['masked_over_curve']:.0f} times "
            f"as long; {found['differing_counts']} counts differ"
        )
    speedup = bench_training(device, samples=256)
    print(f"training: {speedup:.2f} times the throughput of a plain fp32 loop with a DataLoader")
    growth = bench_memory(samples=1000)
    print(f"memory: 10 times the samples change the peak of profile and prune by {growth:+.1%}")
    seconds = bench_help()
    print(f"fineprune --help: {seconds:.3f} s")
    write_json(
        Path(__file__).with_name("latest.json"),
        {
            "device": device.type,
            "precision": precision,
            "curve_over_forward": max(found["curve_over_forward"] for found in curves.values()),
            "masked_over_curve": min(found["masked_over_curve"] for found in curves.values()),
            "training_speedup": speedup,
            "memory_growth": growth,
            "help_seconds": seconds,
            "curves": curves,
        },
    )


if __name__ == "__main__":
    main()
