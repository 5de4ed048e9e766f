"""evaluate: clean accuracy, backdoor success, robust accuracy and utility of every model of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fineprune.attacks.format import load_attack
from fineprune.config import Count, to_plain
from fineprune.data.format import Dataset
from fineprune.data.splits import seen_before
from fineprune.defenses.profiling import load_profile
from fineprune.defenses.ranking import least_active_first
from fineprune.digests import dvc_md5
from fineprune.evaluation.average_precision import AveragePrecision
from fineprune.evaluation.checks import CheckLimits, Observations, run_checks
from fineprune.evaluation.comparison import utility_gain
from fineprune.evaluation.measurement import Predictions, TestBed
from fineprune.evaluation.metrics import ModelMetrics, measure
from fineprune.evaluation.outcomes import as_report
from fineprune.files import write_json
from fineprune.gate import DEFENDED
from fineprune.models.format import model_digest
from fineprune.progress import progress
from fineprune.reporting.classes import costliest
from fineprune.reporting.illustration import draw, shown_confusion
from fineprune.reporting.report import render
from fineprune.reporting.sweep import as_row
from fineprune.reporting.table import ROWS, Models, text_table
from fineprune.runtime import pick_device
from fineprune.stages.base import Result, Stage
from fineprune.stages.reading import open_model

OPTIONAL = ("control_fine_tuned",)  # the tables ask for it; the gate does not
MODELS = tuple(name for name in ROWS if name not in OPTIONAL)


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
    networks = {name: open_model(inputs[name], dataset, device) for name in ROWS if name in inputs}
    said = {
        name: bed.predict(network)
        for name, network in progress(networks.items(), total=len(networks), name="evaluate", unit="model")
    }
    outcomes = {name: bed.outcomes(one) for name, one in said.items()}
    metrics = {
        name: measure(one, before=outcomes[before] if (before := _before(name)) else None)
        for name, one in outcomes.items()
    }
    precision = {name: bed.average_precision(one) for name, one in said.items()}
    checks = run_checks(_observations(bed, dataset, said, metrics, precision), config.limits)
    took = bed.took(undefended=metrics["undefended"], control=metrics["control"])
    digests = {name: model_digest(inputs[name]) for name in networks}
    models = {
        name: asdict(one) | _average_precision(precision[name]) | {"digest": digests[name]}
        for name, one in metrics.items()
    }
    by_class = _by_class(bed, said, precision)
    gain = utility_gain(outcomes["fine_pruned"], outcomes["fine_tuned"])
    write_json(outputs["report"] / "metrics.json", _summary(models))
    profile = load_profile(inputs["profile"], network=networks["undefended"], model=digests["undefended"])
    order, stop = least_active_first(profile.mean), len(networks["pruned"].spec.pruned)
    pruning = {"order": order, "stop": stop, "curve": bed.curve(networks["undefended"], order)}
    activations = bed.activations(networks["undefended"], profile.measure)
    draw(outputs["report"] / "figures", bed, said, models, pruning, activations, by_class)
    table = text_table(models)
    (outputs["report"] / "table.txt").write_text(table + "\n", encoding="utf-8")
    return Result(
        numbers=_flat(models),
        warnings=[c.message for c in checks if not c.passed] + ([] if took["took"] else [took["reason"]]),
        extra={
            "case": dataset.card.name,
            "attack": bed.card.name,
            "attack_details": _details(bed),
            "seed": bed.card.seed,
            "models": models,
            "outcomes": as_report({name: outcomes[name] for name in ("undefended", *DEFENDED)}),
            "pruning_gain": None if gain is None else asdict(gain),
            "by_class": by_class,
            "pruning": pruning,
            "activations": activations,
            "confusion": shown_confusion(bed, said["fine_pruned"]),
            "attack_took": took,
            "checks": [asdict(check) for check in checks],
            "dataset": {
                "digest": dataset.digest,
                "dvc_md5": dvc_md5(inputs["dataset"]),
                "origin": dataset.card.origin,
            },
        },
        text=table,
    )


def write_views(report: Mapping[str, Any], folder: Path, _: Mapping[str, Path]) -> None:
    """Write the report as one self-contained page, ``report.html``, and its figures alone, ``row.json``."""
    (folder / "row.json").write_text(as_row(report), encoding="utf-8")
    pictures = {path.stem: path for path in sorted((folder / "figures").glob("*.png"))}
    (folder / "report.html").write_text(render(report, pictures), encoding="utf-8")


def _before(model: str) -> str | None:
    """The model that the defence made this one of."""
    if model in ("undefended", "control"):
        return None
    return "control" if model.startswith("control_") else "undefended"


def _observations(
    bed: TestBed,
    dataset: Dataset,
    said: Mapping[str, Predictions],
    metrics: Mapping[str, ModelMetrics],
    precision: Mapping[str, AveragePrecision | None],
) -> Observations:
    found = {name: one.mean for name, one in precision.items() if one is not None}
    return Observations(
        truth=bed.truth,
        control=metrics["control"],
        defended={name: metrics[name] for name in DEFENDED},
        precision={name: found[name] for name in ("undefended", *DEFENDED)} if found else None,
        undefended_clean=said["undefended"].clean,
        repeated=seen_before(dataset) / len(dataset.splits["test"]),
        unchanged=bed.unchanged(),
        not_finite=[name for name, one in said.items() if not one.finite],
    )


def _average_precision(found: AveragePrecision | None) -> dict[str, dict[str, Any] | None]:
    """The mean over the classes, as a model's entry in the report has it; nothing for a classifier."""
    if found is None:
        return {}
    return {"average_precision": None if found.mean is None else asdict(found.mean)}


def _by_class(
    bed: TestBed, said: Mapping[str, Predictions], precision: Mapping[str, AveragePrecision | None]
) -> dict[str, list[dict[str, Any]]]:
    """The figures of the classes that lose most."""
    accuracy = {name: bed.accuracy_by_class(one) for name, one in said.items()}
    areas = {name: one.by_class for name, one in precision.items() if one is not None}
    found = {"clean_accuracy": accuracy} | ({"average_precision": areas} if areas else {})
    return {figure: costliest(models, bed.classes) for figure, models in found.items()}


def _details(bed: TestBed) -> dict[str, Any]:
    plain = to_plain(bed.card)
    names = ("trigger", "labels", "poison", "pruning_aware", "took")
    details = {name: plain[name] for name in names if plain[name] is not None}
    # A picture that is laid over the inputs is but a path in the config; its arrays say what it was.
    return details | ({"trigger_sha256": plain["sha256"]} if plain["sha256"] else {})


def _summary(models: Models) -> dict[str, dict[str, float]]:
    """The figures of every model without their intervals, for ``dvc metrics show``."""
    return {
        model: {name: entry["value"] for name, entry in measured.items() if isinstance(entry, Mapping)}
        for model, measured in models.items()
    }


def _flat(models: Models) -> dict[str, float]:
    return {
        f"{model}.{name}": value for model, row in _summary(models).items() for name, value in row.items()
    }


STAGE = Stage(
    name="evaluate",
    config=EvaluateConfig,
    inputs=("dataset", "attack", "profile", *MODELS),
    outputs=("report",),
    run=run,
    optional=OPTIONAL,
    after=write_views,
    views={"page": "report.html", "row": "row.json"},
)
