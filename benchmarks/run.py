"""``make bench``: what is claimed fast, measured as ratios in one process on the same inputs.

Each pair is timed in turns and the median of the rounds is kept, because shared machines are noisy; a masked
evaluation for each point of a curve, which takes hundreds of times as long, is timed once.
Prints one line per claim and writes ``benchmarks/latest.json``. Takes about five minutes on two slow cores.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import torch

from curve import bench_curve
from detector import as_seen_by, bench_detector, detector, noisy_scenes
from fineprune import runtime
from fineprune.files import write_json
from memory import bench_memory
from rig import NETWORKS, in_turns, network_of, noise
from training import bench_accuracy, bench_speed


def bench_curves(device: torch.device) -> dict[str, dict[str, float]]:
    """The pruning curve of each of the rig's networks, and of the detector, a line for each."""
    found = {}
    for name, (spec, _) in NETWORKS.items():
        network, data = network_of(name, device), noise(spec, 128, device)
        found[name] = bench_curve(network, data, few=4, batch_size=64)
    network = detector().eval()
    runtime.place(network, device)
    scenes = as_seen_by(network, noisy_scenes(2, device))
    found["faster_rcnn"] = bench_curve(network, scenes, few=1, batch_size=2)
    for name, curve in found.items():
        print(
            f"{name}: the curve of {curve['points']} points takes {curve['curve_over_forward']:.3f} "
            f"forward passes, {curve['point_over_forward']:.4f} for each point; a masked evaluation per "
            f"point takes {curve['masked_over_curve']:.3g} times as long; {curve['differing_counts']} counts "
            "differ"
        )
    return found


def bench_help() -> float:
    """Seconds until ``fineprune --help`` has answered, median of five."""

    def ask() -> None:
        subprocess.run(
            [Path(sys.executable).with_name("fineprune"), "--help"], check=True, capture_output=True
        )

    return in_turns(ask)[0]


def accuracy_line(found: dict[str, list[float]]) -> str:
    """Both means, and the difference by seed with its standard deviation."""
    differences = [ours - plain for ours, plain in zip(found["ours"], found["plain"], strict=True)]
    return (
        f"training accuracy on digits, {len(differences)} seeds: ours {statistics.mean(found['ours']):.4f}, "
        f"plain {statistics.mean(found['plain']):.4f}, difference {statistics.mean(differences):+.4f} "
        f"± {statistics.stdev(differences):.4f}"
    )


def main() -> None:
    """Run every benchmark, print a line for each, write the figures."""
    device = runtime.pick_device()
    precision = "bf16" if runtime.fast_bf16(device) else "fp32"
    print(f"device {device.type}, {precision}, {torch.get_num_threads()} threads")
    curves = bench_curves(device)
    speedup = bench_speed(device, samples=128)
    print(f"training: {speedup:.2f} times the throughput of a plain fp32 loop with a DataLoader")
    looped = bench_detector(device, samples=4, rounds=2)
    print(
        f"detector: training has {looped['speedup']:.1f} times the throughput of one with loops over boxes; "
        f"the losses differ by {looped['loss_difference']:.0e}"
    )
    accuracy = bench_accuracy(device, seeds=(0, 1, 2), epochs=15)
    print(accuracy_line(accuracy))
    growth = bench_memory(samples=1000)
    print(f"memory: 10 times the samples change the peak of profile and prune by {growth:+.1%}")
    seconds = bench_help()
    print(f"fineprune --help: {seconds:.3f} s")
    write_json(
        Path(__file__).with_name("latest.json"),
        {
            "device": device.type,
            "precision": precision,
            "training_speedup": speedup,
            "detector_training": looped,
            "training_accuracy": accuracy,
            "memory_growth": growth,
            "help_seconds": seconds,
            "curves": curves,
        },
    )


if __name__ == "__main__":
    main()
