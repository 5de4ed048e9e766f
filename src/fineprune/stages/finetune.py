"""finetune: continue training on the defender's clean data, with an early stop on data of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fineprune.config import Seed
from fineprune.data.batches import SplitSamples
from fineprune.data.format import Dataset
from fineprune.defenses.finetuning import EarlyStop, fine_tune
from fineprune.models.format import save_model
from fineprune.progress import progress
from fineprune.reporting import figures
from fineprune.runtime import pick_device
from fineprune.stages.base import Result, Stage
from fineprune.stages.page import VIEWS, write_page
from fineprune.stages.reading import open_model
from fineprune.training import Recipe


@dataclass(frozen=True)
class FinetuneConfig:
    """The ``finetune`` section."""

    recipe: Recipe
    stop: EarlyStop
    seed: Seed


def run(config: FinetuneConfig, inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> Result:
    """Fine-tune the model and write the best epoch's weights."""
    dataset, device = Dataset(inputs["dataset"]), pick_device()
    network = open_model(inputs["model"], dataset, device)
    samples = SplitSamples(dataset, "defender_fit", device, cache=True)
    holdout = SplitSamples(dataset, "defender_holdout", device, cache=True)
    epochs = fine_tune(network, samples, holdout, config.recipe, config.stop, seed=config.seed)
    tuned = list(progress(epochs, total=config.recipe.epochs, name="finetune", unit="epoch"))
    save_model(outputs["tuned"], network)
    series = {
        "train_loss": [(t.epoch.number, t.epoch.loss) for t in tuned],
        "train_accuracy": [(t.epoch.number, t.epoch.accuracy) for t in tuned],
        "holdout_loss": [(t.epoch.number, t.holdout_loss) for t in tuned],
        "holdout_accuracy": [(t.epoch.number, t.holdout_accuracy) for t in tuned],
    }
    figures.training_curves(outputs["report"] / "training_curves.png", series)
    best = [t for t in tuned if t.best][-1]
    return Result(
        numbers={
            "epochs": len(tuned),
            "best_epoch": best.epoch.number,
            "holdout_loss": best.holdout_loss,
            "holdout_accuracy": best.holdout_accuracy,
        },
        series=series,
        summary=f"epoch {best.epoch.number} of {len(tuned)} kept, clean accuracy on data held out "
        f"{best.holdout_accuracy:.3f}",
    )


STAGE = Stage(
    name="finetune",
    config=FinetuneConfig,
    inputs=("dataset", "model"),
    outputs=("tuned", "report"),
    run=run,
    after=write_page,
    views=VIEWS,
)
