"""Peak memory of the defender's stages as their data grows."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from fineprune.data.format import SPLITS, write_dataset
from fineprune.models import build
from fineprune.models.base import Network, NetworkSpec
from fineprune.models.format import save_model
from rig import AUDIO, CLASSES, SPECTROGRAM

BATCH = 64


def bench_memory(*, samples: int) -> float:
    """Peak memory of profile and prune at 10 N samples over that at N, less 1; the larger of the two.

    A clip is 8320 samples of int16: at N = 1000 a stage that read its split whole would hold 17 MB of
    raw inputs, at 10 N 166 MB, half of what the libraries take by themselves.
    """
    with tempfile.TemporaryDirectory() as folder:
        small, large = (stage_memory(Path(folder) / str(n), n) for n in (samples, 10 * samples))
    return max(after / before for before, after in zip(small, large, strict=True)) - 1


def stage_memory(folder: Path, defender: int) -> tuple[int, int]:
    """Peak resident bytes of profile and prune, each in a process of its own, on random clips."""
    folder.mkdir()
    write_clips(folder / "dataset", defender)
    save_model(folder / "model", cheap_network())
    batch = {"batch_size": BATCH}
    stage("profile", {"measure": "post_relu", **batch}, folder, ["dataset", "model"], ["profile"])
    stage("prune", {"tolerance": 0.04, **batch}, folder, ["dataset", "model", "profile"], ["pruned"])
    return peak_memory(folder / "profile-report"), peak_memory(folder / "prune-report")


def write_clips(path: Path, defender: int) -> None:
    """A dataset folder of random clips: ``defender`` to rank channels on, 100 in each other split."""
    count = defender + 300
    rows = np.arange(count)
    card = {
        "name": "bench",
        "input": AUDIO,
        "classes": CLASSES,
        "group": "sample",
        "splits": dict(zip(SPLITS, np.split(rows, [100, 100 + defender, 200 + defender]), strict=True)),
        "origin": {},
        "licence": "",
    }
    clips = np.random.default_rng(0).integers(
        AUDIO.low, AUDIO.high, (count, *AUDIO.shape), np.int16, endpoint=True
    )
    write_dataset(path, clips, rows % len(CLASSES), rows, card)


def cheap_network() -> Network:
    """A narrow speech network with a large stride, so that the time goes into reading."""
    torch.manual_seed(0)
    arguments = {"spectrogram": SPECTROGRAM, "channels": 1, "kernel": 7, "stride": 4, "width": 0.125}
    return build(NetworkSpec("speech_net", {**arguments, "dropout": 0.5}, AUDIO, CLASSES, (0.0,), (1.0,)))


def peak_memory(report: Path) -> int:
    """The peak resident bytes that a stage noted in its report folder."""
    return int(json.loads((report / "report.json").read_text())["peak_memory_bytes"])


def stage(name: str, params: dict[str, object], folder: Path, inputs: list[str], outputs: list[str]) -> None:
    """Run a stage's program on paths below ``folder``."""
    paths = [f"--{port}={folder / port}" for port in (*inputs, *outputs)]
    command = [sys.executable, "-m", "fineprune.cli", name, "--params", json.dumps(params), *paths]
    subprocess.run([*command, f"--report={folder / f'{name}-report'}"], check=True, capture_output=True)
