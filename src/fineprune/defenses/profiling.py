"""How active each channel of the prunable layer is on clean data (paper, §3: record average activations)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from fineprune import runtime
from fineprune.config import read_card
from fineprune.data.batches import Batch
from fineprune.errors import DefenseError
from fineprune.files import write_json
from fineprune.models.base import Network

FORMAT = 1
CARD = "profile.json"

Measure = Literal["post_relu", "post_pool"]


@dataclass(frozen=True)
class Profile:
    """Activations per channel of the prunable layer.

    Attributes:
        layer: the prunable convolution's name.
        measure: what ``mean`` averages: activations after the ReLU, or after the pooling behind it
            (as the paper's released script does).
        samples: how many inputs were profiled.
        channels: (C,) original index of each channel.
        mean: (C,) mean activation over inputs and positions, ≥ 0.
        maximum: (C,) largest pre-activation seen; at most 0 where the channel never fired.
        dormant: (C,) share of inputs on which the channel did not fire anywhere, 0…1.
    """

    layer: str
    measure: Measure
    samples: int
    channels: tuple[int, ...]
    mean: tuple[float, ...]
    maximum: tuple[float, ...]
    dormant: tuple[float, ...]


@dataclass(frozen=True)
class _Card(Profile):
    format: int
    model: str


def measures(network: Network) -> tuple[Measure, ...]:
    """The measures that the network can be profiled by."""
    return ("post_relu",) if network.pooling() is None else ("post_relu", "post_pool")


@torch.inference_mode()
def profile_channels(network: Network, batches: Iterable[Batch], *, measure: Measure) -> Profile:
    """Profile the prunable layer in one pass; memory does not grow with the number of inputs.

    Args:
        network: in evaluation mode.
        batches: clean raw inputs (labels and places are not looked at).
        measure: see :class:`Profile`.

    Raises:
        DefenseError: there are no inputs, an activation is NaN or infinite, or there is no pooling to
            measure after.
    """
    if measure not in measures(network):
        raise DefenseError(
            f"profile.measure: {measure} needs pooling behind {network.prunable.conv}, found none"
        )
    pooling = network.pooling() if measure == "post_pool" else None
    channels = len(network.channels)
    device = network.device
    total, silent = torch.zeros(2, channels, dtype=torch.float64, device=device)
    maximum = torch.full((channels,), -torch.inf, device=device)
    count = 0
    for inputs, *_ in batches:
        with runtime.autocast(inputs.device):
            before = network.preactivation(inputs)
        before = before.float()
        active = F.relu(before)
        if pooling is not None:
            active = pooling(active)
        peaks = before.amax((2, 3))
        total += active.mean((2, 3)).double().sum(0)
        silent += (peaks <= 0).double().sum(0)
        maximum = torch.maximum(maximum, peaks.amax(0))
        count += len(inputs)
    if not count:
        raise DefenseError("profile: expected clean inputs of the defender, found none")
    mean, dormant = (total / count).cpu(), (silent / count).cpu()
    if not (mean.isfinite().all() and maximum.isfinite().all()):
        raise DefenseError(f"profile: activations of {network.prunable.conv} are NaN or infinite")
    return Profile(
        layer=network.prunable.conv,
        measure=measure,
        samples=count,
        channels=network.channels,
        mean=tuple(mean.tolist()),
        maximum=tuple(maximum.tolist()),
        dormant=tuple(dormant.tolist()),
    )


def save_profile(path: Path, profile: Profile, *, model: str) -> None:
    """Write a profile folder: a ``profile.json`` that names ``model``, the SHA-256 of that model's card."""
    path.mkdir(parents=True)
    write_json(path / CARD, {"format": FORMAT, "model": model, **asdict(profile)})


def load_profile(path: Path, *, network: Network, model: str) -> Profile:
    """Read a profile and check that it is of this very model.

    Raises:
        DefenseError: the file is not a profile, or of another model or other channels.
    """
    card = read_card(_Card, path / CARD, format_number=FORMAT, error=DefenseError, name="profile")
    if card.model != model:
        raise DefenseError(
            f"{path / CARD}: expected a profile of model {model[:16]}…, found of {card.model[:16]}…"
        )
    if card.channels != network.channels or len(card.mean) != len(card.channels):
        raise DefenseError(
            f"{path / CARD}: does not list the {len(network.channels)} channels of {card.layer}"
        )
    return Profile(**{field.name: getattr(card, field.name) for field in fields(Profile)})
