"""Fine-tuning recipes compared by cross-validation on the defender's data, as one Markdown table.

    python benchmarks/recipe.py --seeds 0 1 2 -S case=digits --try learning_rate=0.04,0.08 --try epochs=20,40

Each seed's pruned model is what ``dvc exp run`` makes of it in the workspace with ``attack.seed`` set; only
what has not changed since the run before is left out. It is then fine-tuned by the case's own recipe and by
every combination of the values to try (without any: those of ``AROUND``), on four fifths of the defender's
data; each seed holds out another fifth, or with ``--every-fold`` all of them in turn, where one has too few
labels to tell recipes apart. That fifth also stops the training early, as the stage's does, so that its
accuracy is a little high, for every recipe. A cell is the mean over all trainings, then the value of each.

The choice is the recipe that moves the weights furthest among those whose accuracy on what is held out is
within one point of the highest, or within the standard error of the difference where that is more: what may
hide in the weights is erased by moving them, so the defender moves them as far as clean accuracy permits.
(The lowest loss would favour the gentlest recipe, which erases least.) The difference is one of pairs, since
all recipes are asked for the same labels: only those on which two disagree make it uncertain, and what is
lost in several seeds or labels of one image or speaker counts once. Only the defender's clean data is read:
neither the test split nor the backdoor's success has a say.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from experiments import run_experiment, seeds_parser
from fineprune.config import parse
from fineprune.data.batches import Samples, SplitSamples, in_order
from fineprune.data.format import EMPTY, Dataset
from fineprune.data.splits import divide
from fineprune.defenses.finetuning import EarlyStop, fine_tune
from fineprune.errors import DefenseError, ModelError
from fineprune.inference import predict
from fineprune.models.base import Network
from fineprune.models.format import load_model
from fineprune.params import override, read_section
from fineprune.progress import progress
from fineprune.reporting.table import as_markdown
from fineprune.runtime import pick_device, place
from fineprune.stages.finetune import FinetuneConfig
from fineprune.training import Recipe

PRUNED = "prune@undefended"
DATASET, MODEL = Path("artifacts/ingest/dataset"), Path("artifacts/prune/undefended/model")
DEFENDER = ("defender_fit", "defender_holdout")
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
Groups = np.ndarray[tuple[int], np.dtype[np.int64]]
# Factors on the case's own values.
AROUND = {"learning_rate": (0.5, 1, 2), "weight_decay": (0.1, 1, 10)}
TOLERANCE = 0.01  # of accuracy, below the highest
FOLDS = 5


@dataclass(frozen=True)
class Outcome:
    """What fine-tuning by one recipe gave: figures on what is held out, and how far the weights moved.

    ``right`` says of each label whether it is given, ``groups`` of which image, speaker or video it is;
    ``distance`` is the length of the change over the length of the weights before. What diverged has an
    infinite loss, and no label right.
    """

    loss: float
    right: Flags
    groups: Groups
    distance: float

    @property
    def accuracy(self) -> float:
        """Share of right labels."""
        return float(self.right.mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune each seed's pruned model by each recipe and print the table."""
    parser = seeds_parser(__doc__)
    parser.add_argument(
        "--try",
        action="append",
        default=[],
        type=values_to_try,
        metavar="KEY=V,V…",
        help="values of a key of finetune.recipe",
    )
    parser.add_argument("--every-fold", action="store_true", help="each seed holds out all fifths in turn")
    given = vars(parser.parse_args(arguments))
    found: dict[FinetuneConfig, list[Outcome]] = {}
    for seed in given["seeds"]:
        section = pruned_model(seed, given["S"])
        configs = candidates(section, dict(given["try"]))
        work = list(product(folds(seed, every=given["every_fold"]), configs))
        for number, config in progress(work, total=len(work), name=f"seed {seed}", unit="training"):
            found.setdefault(config, []).append(outcome(replace(config, seed=seed), number))
    print(as_markdown(table(found)))
    print(f"seeds {given['seeds']}, choice on the defender's data")


def values_to_try(text: str) -> tuple[str, list[str]]:
    """The key and the values of ``KEY=V,V…``, as ``--set`` takes them; a value in brackets is a list."""
    key, equals, values = text.partition("=")
    if not equals or key not in {field.name for field in fields(Recipe)}:
        raise argparse.ArgumentTypeError(f"expected KEY=V,V… with a key of finetune.recipe, found {text!r}")
    return key, ["" if value is None else str(value) for value in yaml.safe_load(f"[{values}]")]


def pruned_model(seed: int, changes: Sequence[str]) -> dict[str, Any]:
    """Run the pipeline up to the pruned model of that seed; returns the case's ``finetune`` section."""
    if run_experiment([*changes, f"attack.seed={seed}"], PRUNED):
        raise SystemExit(f"recipe: seed {seed}: dvc exp run failed, see above")
    params = Path("params.yaml")
    case = yaml.safe_load(params.read_text(encoding="utf-8"))["case"]
    return read_section([params, Path(f"cases/{case}.yaml")], "finetune")


def candidates(section: Mapping[str, Any], grid: Mapping[str, Sequence[str]]) -> list[FinetuneConfig]:
    """The case's own recipe, then every other combination of the values.

    The early stop's epochs move with the number of epochs.
    """
    own = parse(FinetuneConfig, section, "finetune")
    values = asdict(own.recipe)
    grid = grid or {key: [f"{values[key] * f:g}" for f in factors] for key, factors in AROUND.items()}
    found = [own]
    for combination in product(*grid.values()):
        settings = [f"recipe.{key}={value}" for key, value in zip(grid, combination, strict=True)]
        config = parse(FinetuneConfig, override(section, settings), "finetune")
        earliest, patience = (
            -(-n * config.recipe.epochs // own.recipe.epochs)  # rounded up
            for n in (own.stop.min_epochs, own.stop.patience)
        )
        found.append(replace(config, stop=EarlyStop(earliest, patience)))
    return list(dict.fromkeys(found))


def outcome(config: FinetuneConfig, number: int) -> Outcome:
    """The outcome for the weights that fine-tuning keeps, on the fold of that number."""
    dataset, device = Dataset(DATASET), pick_device()
    dataset.splits |= fold(dataset, number)
    network = load_model(MODEL)
    place(network, device)
    before = weights(network)
    samples, holdout = (SplitSamples(dataset, split, device, cache=True) for split in DEFENDER)
    there = (holdout.labels != EMPTY).cpu().numpy().reshape(len(holdout), -1)
    groups = np.repeat(dataset.groups[holdout.rows], there.sum(axis=1))
    epochs = fine_tune(network, samples, holdout, config.recipe, config.stop, seed=config.seed)
    try:
        best = [tuned for tuned in epochs if tuned.best][-1]
    except (DefenseError, ModelError):
        return Outcome(math.inf, np.zeros(len(groups), bool), groups, 0.0)
    moved = (weights(network) - before).norm() / before.norm()
    return Outcome(best.holdout_loss, right_labels(network, holdout, config.recipe), groups, float(moved))


def folds(seed: int, *, every: bool) -> Sequence[int]:
    """The numbers of the folds that a seed holds out, one after the other."""
    return range(FOLDS) if every else [seed % FOLDS]


def fold(dataset: Dataset, number: int) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The defender's rows divided anew, by whole groups: ``defender_holdout`` is another fifth for each
    ``number`` below :data:`FOLDS`, ``defender_fit`` the rest.
    """
    rows = np.sort(np.concatenate([dataset.splits[name] for name in DEFENDER]))
    shares = np.full(FOLDS, 1 / FOLDS)
    sides = divide(dataset.labels[rows], dataset.groups[rows], shares, np.random.default_rng(0))
    held_out = sides == number
    return dict(zip(DEFENDER, (rows[~held_out], rows[held_out]), strict=True))


def right_labels(network: Network, samples: Samples, recipe: Recipe) -> Flags:
    """Whether the network gives each label, as evaluate counts: a detector, whether it finds the sign and
    names it right.
    """
    labels = samples.labels.cpu()
    said = predict(network, in_order(samples, recipe.batch_size))
    return (said == labels)[labels != EMPTY].numpy()


def weights(network: Network) -> Tensor:
    """A copy of all weights as one vector."""
    return torch.cat([part.detach().flatten() for part in network.parameters()])


def table(found: Mapping[FinetuneConfig, Sequence[Outcome]]) -> list[list[str]]:
    """A header line and one line per recipe, the case's own first; only the keys that differ are shown."""
    recipes = {config: asdict(config.recipe) for config in found}
    own, *others = recipes.values()
    keys = [key for key in own if any(other[key] != own[key] for other in others)]
    chosen = choice(found)
    figures = ("loss", "accuracy", "distance")
    lines = [[*(key.replace("_", " ") for key in keys), *figures, ""]]
    for config, outcomes in found.items():
        marks = ["the case's"] * (recipes[config] is own) + ["choice"] * (config is chosen)
        cells = [cell([getattr(one, figure) for one in outcomes]) for figure in figures]
        lines.append([*(f"{recipes[config][key]}" for key in keys), *cells, ", ".join(marks)])
    return lines


def choice(found: Mapping[FinetuneConfig, Sequence[Outcome]]) -> FinetuneConfig:
    """The recipe that moves the weights furthest within :data:`TOLERANCE` of the highest accuracy, or within
    the standard error of the difference.
    """
    right = {config: np.concatenate([one.right for one in outcomes]) for config, outcomes in found.items()}
    highest, groups = max(right.values(), key=np.mean), [one.groups for one in next(iter(found.values()))]
    fit = [config for config in found if _as_accurate(right[config], highest, np.concatenate(groups))]
    return max(fit, key=lambda config: statistics.mean(one.distance for one in found[config]))


def _as_accurate(right: Flags, highest: Flags, groups: Groups) -> bool:
    lost = highest.astype(float) - right
    _, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, lost - lost.mean())
    error = math.sqrt(float(np.square(sums).sum()) * len(sums) / max(1, len(sums) - 1)) / len(lost)
    return bool(lost.mean() <= max(TOLERANCE, error) + 1e-9)


def cell(values: Sequence[float]) -> str:
    """``.0612 (.0702, .0578, .0556)``: the mean, then each value."""
    mean, *each = (f"{value:.4f}".removeprefix("0") for value in (statistics.mean(values), *values))
    return f"{mean} ({', '.join(each)})" if len(each) > 1 else mean


if __name__ == "__main__":
    main()
