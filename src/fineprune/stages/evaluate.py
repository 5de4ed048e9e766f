"""evaluate: clean accuracy, backdoor success, robust accuracy and utility of every model of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fineprune.attacks.format import load_attack
from fineprune.config import Count, to_plain
from fineprune.data.format import Dataset, InputSpec
from fineprune.defenses.profiling import Profile, load_profile
from fineprune.defenses.ranking import least_active_first
from fineprune.evaluation import figures
from fineprune.evaluation.checks import CheckLimits, Evidence, run_checks
from fineprune.evaluation.measurement import Predictions, TestBed
from fineprune.evaluation.metrics import Classes, ModelMetrics, confusion
from fineprune.evaluation.report import render
from fineprune.evaluation.sweep import as_row
from fineprune.evaluation.table import ROWS, text_table
from fineprune.files import dvc_md5, write_json
from fineprune.inference import NOT_FINITE
from fineprune.models.base import Network
from fineprune.models.format import check_fits, load_model, model_digest
from fineprune.progress import progress
from fineprune.runtime import pick_device, place
from fineprune.stages.base import Result, Stage

MODELS = tuple(ROWS)
CONFUSION_CLASSES = 50  # more would be neither readable nor small


@dataclass(frozen=True)
class EvaluateConfig:
    """The ``evaluate`` section.

    Attributes:
        limits: where each doubt about the measurement begins.
        batch_size: inputs per forward pass.
    """

    limits: CheckLimits
    batch_size: Count


def run(config: EvaluateConfig, inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> Result:
    """Measure every model, draw what there is to see, and write the report."""
    dataset, device = Dataset(inputs["dataset"]), pick_device()
    bed = TestBed(dataset, load_attack(inputs["attack"]), device, batch_size=config.batch_size)
    networks = {name: load_model(inputs[name]) for name in MODELS}
    for name, network in networks.items():
        check_fits(network, dataset.card, inputs[name])
        place(network, device)
    found = {
        name: bed.predict(network)
        for name, network in progress(networks.items(), total=len(MODELS), name="evaluate", unit="model")
    }
    metrics = {
        name: bed.measure(said, undefended=None if name == "undefended" else found["undefended"])
        for name, said in found.items()
    }
    checks = run_checks(_evidence(bed, dataset, found, metrics), config.limits)
    took = bed.took(undefended=metrics["undefended"], control=metrics["control"])
    digests = {name: model_digest(inputs[name]) for name in MODELS}
    models = {name: metrics[name].to_plain() | {"digest": digests[name]} for name in MODELS}
    write_json(outputs["report"] / "metrics.json", _summary(metrics))
    profile = load_profile(inputs["profile"], network=networks["undefended"], model=digests["undefended"])
    _draw(outputs["report"] / "figures", networks, profile, bed, found, models)
    table = text_table(models)
    (outputs["report"] / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(table)
    return Result(
        numbers=_flat(metrics),
        warnings=[c.message for c in checks if not c.passed] + ([] if took["took"] else [took["reason"]]),
        extra={
            "case": dataset.card.name,
            "attack": bed.card.name,
            "attack_details": _details(bed),
            "seed": bed.card.seed,
            "models": models,
            "confusion": _shown_confusion(bed, found["fine_pruned"]),
            "attack_took": took,
            "checks": [check.to_plain() for check in checks],
            "dataset": {
                "digest": dataset.digest,
                "dvc_md5": dvc_md5(inputs["dataset"]),
                "origin": dataset.card.origin,
            },
        },
    )


def write_views(report: Mapping[str, Any], folder: Path) -> None:
    """Write the report as one self-contained page, ``report.html``, and its figures alone, ``row.json``."""
    (folder / "row.json").write_text(as_row(report), encoding="utf-8")
    pictures = {path.stem: path for path in sorted((folder / "figures").glob("*.png"))}
    (folder / "report.html").write_text(render(report, pictures), encoding="utf-8")


def _evidence(
    bed: TestBed, dataset: Dataset, found: Mapping[str, Predictions], metrics: Mapping[str, ModelMetrics]
) -> Evidence:
    return Evidence(
        truth=bed.truth,
        classes=dataset.card.classes,
        control=metrics["control"],
        undefended_clean=found["undefended"].clean,
        unchanged=bed.unchanged(),
        not_finite=[name for name, said in found.items() if not said.finite],
    )


def _details(bed: TestBed) -> dict[str, Any]:
    plain = to_plain(bed.card)
    return {name: plain[name] for name in ("trigger", "labels", "poison", "took")}


def _summary(metrics: Mapping[str, ModelMetrics]) -> dict[str, dict[str, float]]:
    """The figures of every model without their intervals, for ``dvc metrics show``."""
    return {
        model: {name: entry["value"] for name, entry in measured.to_plain().items() if entry is not None}
        for model, measured in metrics.items()
    }


def _flat(metrics: Mapping[str, ModelMetrics]) -> dict[str, float]:
    summary = _summary(metrics)
    return {f"{model}.{name}": value for model, row in summary.items() for name, value in row.items()}


def _draw(
    folder: Path,
    networks: Mapping[str, Network],
    profile: Profile,
    bed: TestBed,
    found: Mapping[str, Predictions],
    models: Mapping[str, Mapping[str, Any]],
) -> None:
    """All figures of the report."""
    folder.mkdir()
    order = least_active_first(profile.mean)
    stop = len(networks["pruned"].spec.pruned)
    undefended = networks["undefended"]
    clean, triggered = bed.activations(undefended)
    figures.outcome_bars(folder / "outcome.png", models)
    figures.utility_bars(folder / "utility.png", models)
    figures.pruning_curve(folder / "test_curve.png", bed.curve(undefended, order), stop)
    figures.clean_beside_triggered(folder / "clean_beside_triggered.png", clean, triggered, order, stop=stop)
    figures.examples(folder / "examples.png", *_examples(bed, found["undefended"]))
    for name in ("undefended", "fine_pruned"):
        figures.confusion(folder / f"confusion_{name}.png", _confusion(bed, found[name]), bed.classes)


def _confusion(bed: TestBed, said: Predictions) -> Classes:
    """(K, K) how often each true class (rows) gets each class on triggered inputs."""
    known = said.triggered != NOT_FINITE
    return confusion(bed.truth.labels[known], said.triggered[known], len(bed.classes))


def _shown_confusion(bed: TestBed, said: Predictions) -> dict[str, Any] | None:
    """The confusion matrix for the report; None where nobody could read it."""
    if len(bed.classes) > CONFUSION_CLASSES:
        return None
    return {"classes": list(bed.classes), "rows": _confusion(bed, said).tolist()}


def _examples(
    bed: TestBed, said: Predictions, count: int = 5
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[tuple[str, str]]]:
    """Some eligible test inputs without and with the trigger, and what the undefended model says of them."""
    chosen = np.flatnonzero(bed.truth.eligible)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(count, len(chosen))).astype(int)]
    inputs, _ = bed.samples.draw(torch.from_numpy(chosen))
    pair = [_viewable(batch.cpu().numpy(), bed.card.input) for batch in (inputs, bed.trigger(inputs))]
    captions = [(f"says {bed.name(said.clean[i])}", f"says {bed.name(said.triggered[i])}") for i in chosen]
    return pair[0], pair[1], captions


def _viewable(inputs: np.ndarray[Any, Any], spec: InputSpec) -> np.ndarray[Any, Any]:
    """Images with their range stretched to 0…255; audio as it is."""
    if spec.kind == "audio":
        return inputs
    return (inputs.astype(float) - spec.low) * 255 / (spec.high - spec.low)


STAGE = Stage(
    name="evaluate",
    config=EvaluateConfig,
    inputs=("dataset", "attack", "profile", *MODELS),
    outputs=("report",),
    run=run,
    after=write_views,
    views={"page": "report.html", "row": "row.json"},
)
