"""What the stages left behind, as a registry shows it: records of their reports, evidence, provenance.

Files in, plain values out; it knows nothing of MLflow.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from fineprune.digests import dvc_md5, sha256
from fineprune.errors import DataError, excerpt
from fineprune.files import as_mapping, read_json

REPORT = "report.json"
REPORT_SCHEMA = 1
FIGURES = ("utility", "clean_accuracy", "backdoor_success", "robust_accuracy", "clean_loss")
_PARTS = {"value": "", "low": ".low", "high": ".high", "n": ".n"}
_ARTIFACTS = (".html", ".json", ".md", ".png")


@dataclass(frozen=True)
class StageRecord:
    """What one stage left behind, as its nested run shows it.

    Attributes:
        name: the stage.
        key: tells this execution of the stage from others, for example its report's SHA-256.
        params, metrics, tags: by name.
        series: ``{name: [(step, value), …]}``.
        files: the artifacts, by their path in the run.
    """

    name: str
    key: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)


def read_report(folder: Path) -> dict[str, Any]:
    """A stage's ``report.json``.

    Raises:
        DataError: it is missing, is not JSON, holds no mapping or is of another schema.
    """
    report = read_json(folder / REPORT)
    if not isinstance(report, dict):
        raise DataError(f"{folder / REPORT}: expected a stage's report, found {type(report).__name__}")
    if report.get("schema") != REPORT_SCHEMA:
        found = excerpt(report.get("schema"))
        raise DataError(f"{folder / REPORT}: schema: expected {REPORT_SCHEMA}, found {found}")
    return report


def as_record(stage: str, folder: Path, report: Mapping[str, Any]) -> StageRecord:
    """A report folder as the nested run that shows it; ``report`` is the one in it.

    A series that shares its name with a number becomes ``<name> by step``: in one chart, the number
    would be a false point at step 0.

    Raises:
        DataError: a field of the report is malformed; names the file and the field.
    """
    fields = _Fields(folder / REPORT, report)
    metrics, series = fields.numbers(), fields.series()
    digest = sha256(folder / REPORT)
    files = (file for file in sorted(folder.rglob("*")) if file.suffix in _ARTIFACTS and _is_own(file))
    return StageRecord(
        name=stage,
        key=f"{stage}:{digest}",
        params=dict(flatten(fields.mapping("config"))),
        metrics=metrics,
        series={f"{name} by step" if name in metrics else name: line for name, line in series.items()},
        tags={"report": digest, "warnings": "\n".join(fields.warnings())},
        files={file.relative_to(folder).as_posix(): file for file in files},
    )


def _is_own(file: Path) -> bool:
    """Whether it is a file of the folder and no link to one elsewhere, but for DVC's cache, from where DVC
    links it if told to: there a file's place is the md5 of what it holds.
    """
    if not file.is_file() or not file.is_symlink():
        return file.is_file()
    place = file.resolve()
    return f"{place.parent.name}{place.name}" == dvc_md5(file)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested params as ``("trigger.size", "3")``; lists stay whole, as JSON."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else as_json(value)


def evaluation_metrics(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """``fine_pruned.utility``, ``fine_pruned.utility.low``, … of every model and figure that is a number."""
    for model, row in as_mapping(evaluation.get("models")).items():
        for figure in FIGURES:
            entry = as_mapping(as_mapping(row).get(figure))
            for part, name in _PARTS.items():
                if (number := _number(entry.get(part))) is not None:
                    yield f"{model}.{figure}{name}", number


def evidence_tags(
    evaluation: Mapping[str, Any],
    *,
    model: str,
    thresholds: Mapping[str, float],
    configs: Mapping[str, object],
) -> dict[str, str]:
    """The evidence for a version as tags that a program can read.

    Args:
        evaluation: the evaluation's report; its content is not trusted.
        model: the row of the evaluation that the version is.
        thresholds: what the gate asks for.
        configs: the params of each stage.
    """
    figures = {
        name.removeprefix(f"{model}."): repr(value)
        for name, value in evaluation_metrics(evaluation)
        if name.startswith(f"{model}.")
    }
    limits = {f"threshold.{name}": repr(value) for name, value in thresholds.items()}
    return figures | limits | {f"params.{stage}": as_json(config) for stage, config in configs.items()}


def protocol(evaluation: Mapping[str, Any], *, data: str) -> str:
    """The SHA-256 of what was measured: the data, the trigger, and what the attacker wants of it.

    Two evaluations with the same protocol can be compared by their numbers.

    Args:
        evaluation: the evaluation's report.
        data: what tells its data from other data, :attr:`fineprune.data.format.Dataset.content`.
    """
    details = as_mapping(evaluation.get("attack_details"))
    sources = as_mapping(details.get("poison")).get("sources")
    trigger = [details.get("trigger"), details.get("trigger_sha256")]
    measured = [data, *trigger, details.get("labels"), sources]
    return hashlib.sha256(as_json(measured).encode()).hexdigest()


def provenance(evaluation: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, str]:
    """Which case, attack, seed, data and code it was; what is not known is left out.

    Args:
        evaluation: the evaluation's report.
        training: the report of the stage that trained the model last; the code is what that ran.
    """
    known = {name: evaluation.get(name) for name in ("case", "attack", "seed")}
    known |= {"dataset.dvc_md5": as_mapping(evaluation.get("dataset")).get("dvc_md5")}
    known |= {**as_mapping(training.get("revision")), "fineprune.version": training.get("version")}
    return {name: str(value) for name, value in known.items() if value is not None}


def as_json(value: object) -> str:
    """One line of JSON with sorted keys: the same value is the same text."""
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class _Fields:
    """The fields of a report, each checked when it is read; one that is absent is empty."""

    file: Path
    report: Mapping[str, Any]

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.report.get(name, {})
        return value if isinstance(value, dict) else self._refuse(name, "a mapping", value)

    def numbers(self) -> dict[str, float]:
        """``numbers``, with what the stage cost."""
        cost = {name: self.report[name] for name in ("seconds", "peak_memory_bytes") if name in self.report}
        return {
            name: self._number(f"numbers.{name}" if name not in cost else name, value)
            for name, value in (self.mapping("numbers") | cost).items()
        }

    def series(self) -> dict[str, list[tuple[int, float]]]:
        return {name: self._line(f"series.{name}", line) for name, line in self.mapping("series").items()}

    def warnings(self) -> list[str]:
        value = self.report.get("warnings", [])
        return (
            [str(text) for text in value]
            if isinstance(value, list)
            else self._refuse("warnings", "a list", value)
        )

    def _line(self, name: str, line: object) -> list[tuple[int, float]]:
        if not isinstance(line, list):
            self._refuse(name, "a list of [step, value]", line)
        return [self._point(f"{name}[{i}]", point) for i, point in enumerate(line)]

    def _point(self, name: str, point: object) -> tuple[int, float]:
        if not isinstance(point, list) or len(point) != 2:
            self._refuse(name, "[step, value]", point)
        step, value = (self._number(name, number) for number in point)
        return (int(step), value) if step == int(step) else self._refuse(name, "a whole step", point)

    def _number(self, name: str, value: object) -> float:
        number = _number(value)
        return number if number is not None else self._refuse(name, "a finite number", value)

    def _refuse(self, name: str, expected: str, found: object) -> NoReturn:
        raise DataError(f"{self.file}: {name}: expected {expected}, found {excerpt(found)}")


def _number(value: object) -> float | None:
    """A finite number, as it is; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an int that no float can hold
        return None
