"""profile: each channel's activation on the defender's clean data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fineprune.config import Count
from fineprune.data.format import Dataset
from fineprune.defenses.profiling import Measure, profile_channels, save_profile
from fineprune.defenses.ranking import least_active_first
from fineprune.models.format import model_digest
from fineprune.reporting import figures
from fineprune.runtime import pick_device
from fineprune.stages.base import Result, Stage
from fineprune.stages.page import VIEWS, write_page
from fineprune.stages.reading import open_model, split_batches


@dataclass(frozen=True)
class ProfileConfig:
    """The ``profile`` section; ``measure`` is explained in :class:`fineprune.defenses.profiling.Profile`."""

    measure: Measure
    batch_size: Count


def run(config: ProfileConfig, inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> Result:
    """Profile the model on the defender's clean data."""
    dataset, device = Dataset(inputs["dataset"]), pick_device()
    network = open_model(inputs["model"], dataset, device)
    batches = split_batches(dataset, "defender_fit", device, config.batch_size, name="profile")
    profile = profile_channels(network, batches, measure=config.measure)
    save_profile(outputs["profile"], profile, model=model_digest(inputs["model"]))
    figures.activation_profile(outputs["report"] / "activation_profile.png", profile.mean)
    order = least_active_first(profile.mean)
    never = sum(share == 1 for share in profile.dormant)
    return Result(
        numbers={"samples": profile.samples, "channels": len(order), "dormant_channels": never},
        series={"sorted_mean_activation": [(i, profile.mean[channel]) for i, channel in enumerate(order)]},
        summary=f"{len(order)} channels on {profile.samples} samples, {never} of them never active",
    )


STAGE = Stage(
    name="profile",
    config=ProfileConfig,
    inputs=("dataset", "model"),
    outputs=("profile", "report"),
    run=run,
    after=write_page,
    views=VIEWS,
)
