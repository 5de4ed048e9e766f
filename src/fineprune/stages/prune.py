"""prune: least active channels first, one at a time, while clean accuracy on defender data holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fineprune.config import Count, Fraction
from fineprune.data.batches import SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.defenses.curve import clean_accuracy_along_curve
from fineprune.defenses.profiling import load_profile
from fineprune.defenses.ranking import least_active_first
from fineprune.defenses.removal import remove_and_compare
from fineprune.defenses.stop_rule import StopPoint, stop_point
from fineprune.models.format import model_digest, save_model
from fineprune.reporting import figures
from fineprune.runtime import pick_device
from fineprune.stages.base import Result, Stage
from fineprune.stages.page import VIEWS, write_page
from fineprune.stages.reading import open_model, split_batches


@dataclass(frozen=True)
class PruneConfig:
    """The ``prune`` section.

    Attributes:
        tolerance: how far clean accuracy on defender data may drop, 0…1.
        batch_size: inputs per forward pass.
    """

    tolerance: Fraction
    batch_size: Count


def run(config: PruneConfig, inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> Result:
    """Prune by the rule and write the smaller network."""
    dataset, device = Dataset(inputs["dataset"]), pick_device()
    network = open_model(inputs["model"], dataset, device)
    profile = load_profile(inputs["profile"], network=network, model=model_digest(inputs["model"]))
    order = least_active_first(profile.mean)
    batches = split_batches(dataset, "defender_fit", device, config.batch_size, name="prune")
    accuracies = clean_accuracy_along_curve(network, order, batches)
    stop = stop_point(accuracies, config.tolerance)
    first = next(in_order(SplitSamples(dataset, "defender_fit", device), config.batch_size))
    pruned = remove_and_compare(network, order[: stop.pruned], first.inputs)
    save_model(outputs["pruned"], pruned)
    figures.pruning_curve(
        outputs["report"] / "pruning_curve.png",
        {"clean accuracy (defender)": accuracies},
        stop.pruned,
        config.tolerance,
    )
    return Result(
        numbers={
            "channels": len(order),
            "channels_pruned": stop.pruned,
            "accuracy_unpruned": accuracies[0],
            "accuracy_pruned": stop.accuracy,
            **_violation(stop),
        },
        series={"clean_accuracy_by_channels_pruned": list(enumerate(accuracies))},
        warnings=_warnings(stop, config.tolerance),
        summary=f"{stop.pruned} of {len(order)} channels removed, clean accuracy on the defender's data "
        f"{accuracies[0]:.3f} before, {stop.accuracy:.3f} after",
        extra={"order": [profile.channels[i] for i in order]},
    )


def _violation(stop: StopPoint) -> dict[str, float]:
    """What one channel more would have cost."""
    found = {"first_violation": stop.violating, "first_violation_accuracy": stop.violating_accuracy}
    return {name: value for name, value in found.items() if value is not None}


def _warnings(stop: StopPoint, tolerance: float) -> list[str]:
    if not stop.pruned and stop.violating is not None:
        return [
            f"nothing was pruned: the first channel already costs more than {100 * tolerance:g} points of "
            "clean accuracy"
        ]
    if stop.violating is None:
        return [
            f"the stop rule was never violated: with one channel left clean accuracy is still "
            f"{stop.accuracy:.3f}, within {100 * tolerance:g} points of the unpruned network's"
        ]
    return []


STAGE = Stage(
    name="prune",
    config=PruneConfig,
    inputs=("dataset", "model", "profile"),
    outputs=("pruned", "report"),
    run=run,
    after=write_page,
    views=VIEWS,
)
