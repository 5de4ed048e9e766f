"""promote: decide, register the model with its evidence, move the alias only on a pass."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fineprune import __version__
from fineprune.config import Count, Range, to_plain
from fineprune.data.format import Dataset
from fineprune.errors import ConfigError, DataError
from fineprune.files import read_json, write_json
from fineprune.gate import Champion, Thresholds, Verdict, challenge, decide
from fineprune.models.format import load_model
from fineprune.stages.base import REPORT, Result, Stage, content_digest
from fineprune.tracking import CANDIDATE, CHAMPION, StageRecord, Tracker, Version, connect

HELD = 3
REPORTS = {
    "ingest": "ingest_report",
    "attack": "attack_report",
    "profile": "profile_report",
    "prune": "prune_report",
    "finetune": "finetune_report",
    "evaluate": "evaluation",
}
FIGURES = ("utility", "clean_accuracy", "backdoor_success", "robust_accuracy", "clean_loss")
ARTIFACTS = (".html", ".json", ".md", ".png")
EXAMPLE_ROWS = 2  # the fewest that leave the batch dimension dynamic; they are stored as text


@dataclass(frozen=True)
class PromoteConfig:
    """The ``promote`` section.

    Attributes:
        model: the row of the evaluation that is to be promoted.
        registered_name: of the registered model.
        min_utility: for the lower end of utility, -1…1.
        max_clean_loss: for the upper end of the loss of clean accuracy, -1…1.
        min_samples: test inputs behind each figure.
        replace_champion: whether a passing version must beat the present champion's lower end of utility.
        tracking_uri: of MLflow; the environment's ``MLFLOW_TRACKING_URI`` wins.
        experiment: where the runs are logged.
    """

    model: str
    registered_name: str
    min_utility: Annotated[float, Range(ge=-1, le=1)]
    max_clean_loss: Annotated[float, Range(ge=-1, le=1)]
    min_samples: Count
    replace_champion: Literal["better", "always"]
    tracking_uri: str
    experiment: str

    def __post_init__(self) -> None:
        if not self.registered_name or set(self.registered_name) & set("/:'\"`"):
            found = repr(self.registered_name)
            raise ConfigError(
                f"promote.registered_name: expected a name without / : or quotes, found {found}"
            )

    @property
    def thresholds(self) -> Thresholds:
        """What the gate asks for."""
        return Thresholds(self.min_utility, self.max_clean_loss, self.min_samples)


def run(
    config: PromoteConfig,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    *,
    fail_on_hold: bool = False,
) -> Result:
    """Judge, log the whole pipeline run, register the version, settle the alias, and say what happened."""
    evaluation, dataset, network = (
        read_report(inputs["evaluation"]),
        Dataset(inputs["dataset"]),
        load_model(inputs["model"]),
    )
    check_dataset(evaluation, dataset)
    digests = {name: content_digest(inputs[name]) for name in ("model", "evaluation", "dataset")}
    verdict = decide(
        evaluation, model=config.model, model_digest=digests["model"], thresholds=config.thresholds
    )
    reports = {stage: inputs[port] for stage, port in REPORTS.items()}
    tags = version_tags(config, evaluation, digests, reports)
    tracker = connect(os.environ.get("MLFLOW_TRACKING_URI") or config.tracking_uri, config.experiment)
    with tracker.pipeline_run(name=run_name(evaluation), key=digests["evaluation"], tags=tags) as run_id:
        for stage, folder in reports.items():
            tracker.log_stage(run_id, read_record(stage, folder))
        example = dataset.inputs(dataset.splits["test"][:EXAMPLE_ROWS])
        version = tracker.register(config.registered_name, network, example, run_id=run_id, tags=tags)
        tracker.log(run_id, metrics=dict(evaluation_metrics(evaluation)))
        verdict, champion = settle(tracker, config, version, verdict, tags)
        decision = {
            **asdict(verdict),
            "model": config.model,
            "model_digest": digests["model"],
            "evaluation_digest": digests["evaluation"],
            "registered_name": config.registered_name,
            "registered_version": version,
            "alias": CHAMPION if verdict.promoted else CANDIDATE,
            "champion_before": champion.number if champion else None,
            "run_id": run_id,
            "tracking_uri": tracker.uri,
        }
        write_decision(outputs["report"], decision, evaluation)
        tracker.log_stage(run_id, decision_record(config, decision, outputs["report"]))
        tracker.log(run_id, tags=told(verdict))
    print(f"{verdict.verdict}: {config.model}", *reasons_and_place(decision), sep="\n")
    print(f"look at it: {tracker.look_at(run_id)}")
    return Result(
        numbers={"promoted": float(verdict.promoted)},
        warnings=list(warnings(decision, champion, digests["dataset"])),
        extra={"decision": decision},
        exit_code=HELD if fail_on_hold and not verdict.promoted else 0,
    )


def settle(
    tracker: Tracker, config: PromoteConfig, version: str, verdict: Verdict, tags: Mapping[str, str]
) -> tuple[Verdict, Version | None]:
    """Compare with the champion and move the alias, under the lock; gives the champion before, too."""
    with tracker.promotion(config.registered_name, version) as promotion:
        best = promotion.champion
        verdict = challenge(
            verdict,
            Champion(best.number, best.tags.get("utility.low")) if best else None,
            version=version,
            utility_low=float(tags.get("utility.low", "nan")),
            replace=config.replace_champion,
        )
        promotion.settle(CHAMPION if verdict.promoted else CANDIDATE, told(verdict))
    return verdict, best


def told(verdict: Verdict) -> dict[str, str]:
    """A verdict as tags."""
    return {"verdict": verdict.verdict, "reasons": "\n".join(verdict.reasons)}


def version_tags(
    config: PromoteConfig,
    evaluation: Mapping[str, Any],
    digests: Mapping[str, str],
    reports: Mapping[str, Path],
) -> dict[str, str]:
    """Evidence and lineage of a version: digests, revision, thresholds, figures, the params of each stage."""
    dataset = evaluation.get("dataset")
    tags = {f"digest.{name}": digest for name, digest in digests.items()}
    tags |= {f"threshold.{name}": repr(value) for name, value in asdict(config.thresholds).items()}
    tags |= {f"params.{stage}": _json(read_report(folder).get("config")) for stage, folder in reports.items()}
    tags |= {name: str(evaluation.get(name)) for name in ("case", "attack", "seed")}
    tags |= {
        name.removeprefix(f"{config.model}."): repr(value)
        for name, value in evaluation_metrics(evaluation)
        if name.startswith(f"{config.model}.")
    }
    dvc_md5 = dataset.get("dvc_md5") if isinstance(dataset, Mapping) else None
    tags |= {"dataset.dvc_md5": str(dvc_md5)} if dvc_md5 else {}
    return tags | revision() | {"model": config.model, "fineprune.version": __version__}


def revision() -> dict[str, str]:
    """The git commit of the working directory and whether it is dirty; else ``FINEPRUNE_GIT_COMMIT``."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit:
        return {"git.commit": commit, "git.dirty": str(bool(changes)).lower()}
    given = os.environ.get("FINEPRUNE_GIT_COMMIT")
    return {"git.commit": given} if given else {}


def evaluation_metrics(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """``fine_pruned.utility``, ``fine_pruned.utility.low``, … of every model and figure that is a number."""
    models = evaluation.get("models")
    for model, row in models.items() if isinstance(models, Mapping) else ():
        for figure in FIGURES:
            entry = row.get(figure) if isinstance(row, Mapping) else None
            for part, name in (("value", ""), ("low", ".low"), ("high", ".high"), ("n", ".n")):
                if isinstance(entry, Mapping) and _is_number(entry.get(part)):
                    yield f"{model}.{figure}{name}", entry[part]


def read_report(folder: Path) -> dict[str, Any]:
    """A stage's ``report.json``.

    Raises:
        DataError: it is missing or holds no mapping.
    """
    report = read_json(folder / REPORT)
    if not isinstance(report, dict):
        raise DataError(f"{folder / REPORT}: expected a stage's report, found {type(report).__name__}")
    return report


def check_dataset(evaluation: Mapping[str, Any], dataset: Dataset) -> None:
    """Raise :class:`DataError` unless the evaluation was made on this dataset."""
    entry = evaluation.get("dataset")
    found = entry.get("digest") if isinstance(entry, Mapping) else None
    if found != dataset.digest:
        text = (
            f"expected an evaluation on this dataset, digest {dataset.digest[:16]}…, found {str(found)[:16]}…"
        )
        raise DataError(f"{dataset.path}: {text}")


def read_record(stage: str, folder: Path) -> StageRecord:
    """A report folder as the nested run that shows it."""
    report = read_report(folder)
    metrics = {
        **_dict(report.get("numbers")),
        **{key: report.get(key) for key in ("seconds", "peak_memory_bytes")},
    }
    files = (file for file in sorted(folder.rglob("*")) if file.suffix in ARTIFACTS and file.is_file())
    return StageRecord(
        name=stage,
        key=f"{stage}:{content_digest(folder)}",
        params=dict(flatten(_dict(report.get("config")))),
        metrics={name: float(value) for name, value in metrics.items() if _is_number(value)},
        series={
            name: [(int(step), float(value)) for step, value in line]
            for name, line in _dict(report.get("series")).items()
        },
        tags={
            "report": content_digest(folder),
            "warnings": "\n".join(map(str, report.get("warnings") or ())),
        },
        files={file.relative_to(folder).as_posix(): file for file in files},
    )


def decision_record(config: PromoteConfig, decision: Mapping[str, Any], folder: Path) -> StageRecord:
    """The promote stage as a nested run; the same decision on the same config is one run."""
    plain = to_plain(config) | {"tracking_uri": decision["tracking_uri"]}
    made_of = _json(
        [plain, {key: decision[key] for key in ("verdict", "reasons", "model_digest", "champion_before")}]
    )
    return StageRecord(
        name="promote",
        key=f"promote:{hashlib.sha256(made_of.encode()).hexdigest()}",
        params=dict(flatten(plain)),
        metrics={"promoted": float(decision["verdict"] == "promoted")},
        tags={
            key: str(decision[key]) for key in ("verdict", "alias", "registered_version", "champion_before")
        },
        files={file.name: file for file in sorted(folder.iterdir())},
    )


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested params as ``("trigger.size", "3")``; lists stay whole, as JSON."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else _json(value)


def run_name(evaluation: Mapping[str, Any]) -> str:
    """What the parent run is called."""
    return f"{evaluation.get('case')} {evaluation.get('attack')} seed {evaluation.get('seed')}"


def write_decision(folder: Path, decision: Mapping[str, Any], evaluation: Mapping[str, Any]) -> None:
    """Write ``decision.json`` and, for people, ``verdict.md``."""
    write_json(folder / "decision.json", decision)
    numbers, model = dict(evaluation_metrics(evaluation)), decision["model"]
    lines = [f"# {model}: {decision['verdict']}", "", *reasons_and_place(decision), ""]
    lines += ["| figure | value | 95 % interval | test inputs |", "|---|---|---|---|"]
    for figure in FIGURES:
        keys = [f"{model}.{figure}{end}" for end in ("", ".low", ".high", ".n")]
        if numbers.keys() >= set(keys):
            value, low, high, n = (numbers[key] for key in keys)
            lines.append(f"| {figure} | {value:.4f} | {low:.4f} to {high:.4f} | {n:.0f} |")
    (folder / "verdict.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def reasons_and_place(decision: Mapping[str, Any]) -> list[str]:
    """Why, and where the version is, as lines of Markdown that read well in a terminal."""
    before = decision["champion_before"]
    champion = f"the champion before was version {before}" if before else "there was no champion before"
    place = f"{decision['registered_name']} version {decision['registered_version']}"
    return [
        *(f"- {reason}" for reason in decision["reasons"]),
        "",
        f"{place} is now {decision['alias']} ({champion}), in {decision['tracking_uri']}",
    ]


def warnings(decision: Mapping[str, Any], champion: Version | None, dataset: str) -> Iterator[str]:
    """What the reader of a decision should look at again."""
    held = decision["verdict"] == "held"
    if champion and held and champion.number == decision["registered_version"]:
        text = "is held now but still champion from an earlier decision: move the alias by hand"
        yield f"version {champion.number} {text}"
    if champion and champion.tags.get("digest.dataset") != dataset:
        yield f"the champion before, version {champion.number}, was measured on another dataset"


def _git(*arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10)  # noqa: S603 - fixed arguments
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


STAGE = Stage(
    name="promote",
    config=PromoteConfig,
    inputs=("dataset", "model", *REPORTS.values()),
    outputs=("report",),
    run=run,
    flags=("fail_on_hold",),
)
