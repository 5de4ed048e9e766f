"""Several pipeline runs side by side: cases × attacks, each over its seeds."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fineprune.errors import DataError, excerpt
from fineprune.reporting.table import Models, columns, number, rows

PARTS = ("value", "low", "high")


@dataclass(frozen=True)
class Run:
    """One pipeline run's evaluation."""

    case: str
    attack: str
    seed: int
    models: Models


def as_row(report: Mapping[str, Any]) -> str:
    """What the table needs of evaluate's report, as one short line of JSON.

    Kubeflow hands all rows of a sweep to one program as one argument, of which Linux takes 128 KiB.
    """
    models = {
        name: {column: _packed(measured[column]) for column in columns({name: measured})}
        for name, measured in report["models"].items()
    }
    row = {name: report[name] for name in ("case", "attack", "seed")} | {"models": models}
    return json.dumps(row, separators=(",", ":"))


def read_run(text: str) -> Run:
    """The run that :func:`as_row` describes.

    Raises:
        DataError: it is not JSON, or a field or a required model is missing.
    """
    try:
        row = json.loads(text)
        models = {
            name: {column: _unpacked(measured[column]) for column in columns({name: measured})}
            for name, measured in row.pop("models").items()
        }
        rows(models)
        return Run(**row, models=models)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"rows: expected what evaluate's --row wrote, found {excerpt(text)}") from error


def groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs by case and attack, ``digits, baseline``, in the order of their seeds.

    Raises:
        DataError: two runs have the same case, attack and seed.
    """
    found: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.case, run.attack, run.seed)):
        found.setdefault(f"{run.case}, {run.attack}", []).append(run)
    for name, several in found.items():
        seeds = [run.seed for run in several]
        if len(set(seeds)) < len(seeds):
            raise DataError(f"{name}: expected each seed once, found {seeds}")
    return found


def table(several: Sequence[Models]) -> list[list[str]]:
    """A header line and one line per model: in each cell the mean over the runs, then each run's value.

    Raises:
        DataError: the runs have not the same models.
    """
    names = rows(several[0])
    for models in several:
        if rows(models) != names:
            raise DataError(f"models: expected {', '.join(names)} in every run, found {', '.join(models)}")
    shown = columns(several[0])
    lines = [["model", *shown.values()]]
    for name, label in names.items():
        lines.append([label, *(cell([models[name].get(column) for models in several]) for column in shown)])
    return lines


def cell(estimates: Sequence[Mapping[str, float] | None]) -> str:
    """``.983 (.981, .985, .983)`` over the runs; ``undefined`` where a run has no value."""
    values = [estimate["value"] for estimate in estimates if estimate is not None]
    if len(values) < len(estimates):
        return "undefined"
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.mean(values))} ({', '.join(map(number, values))})"


def as_csv(runs: Sequence[Run]) -> str:
    """Every figure with its interval, one line per run and model."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    shown = {column: heading for run in runs for column, heading in columns(run.models).items()}
    figures = [f"{column}{'' if part == 'value' else f'_{part}'}" for column in shown for part in PARTS]
    writer.writerow(["case", "attack", "seed", "model", *figures])
    for run in runs:
        for model in rows(run.models):
            writer.writerow([run.case, run.attack, run.seed, model, *_figures(run.models[model], shown)])
    return file.getvalue()


def _packed(estimate: Mapping[str, float] | None) -> list[float] | None:
    return None if estimate is None else [round(estimate[part], 9) for part in PARTS]


def _unpacked(values: Sequence[float] | None) -> dict[str, float] | None:
    return None if values is None else {part: float(v) for part, v in zip(PARTS, values, strict=True)}


def _figures(measured: Mapping[str, Any], shown: Iterable[str]) -> Iterator[float | str]:
    for column in shown:
        estimate = measured.get(column)
        yield from ("",) * len(PARTS) if estimate is None else (estimate[part] for part in PARTS)
