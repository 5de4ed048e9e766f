"""From a command line to a run's parameters: typed as the package wants them, and checked before they go.

What wins, from the weakest: the package's defaults, ``--case``, ``key=value``, ``--set stage.key=value``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fineprune.cli import load_stage
from fineprune.config import parse, to_plain
from fineprune.data.dvc_source import resolve
from fineprune.errors import ConfigError, without_credentials
from fineprune.params import Text, override
from pipeline.package import Package
from pipeline.parameters import OWN, SECTIONS, default_case, defaults, sweep_runs, without_nulls
from pipeline.settings import MAX_RUNS
from pipeline.source import check_source, pinned

_TYPES: Mapping[str, Any] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": bool,
    "STRUCT": dict[str, Any],
    "LIST": tuple[dict[str, Any], ...],  # the sweep's runs
}


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What is run, and with which parameters."""
    parser.add_argument(
        "parameters", nargs="*", metavar="KEY=VALUE", help="a parameter of the pipeline, such as source=…"
    )
    parser.add_argument(
        "--package",
        type=Path,
        metavar="YAML",
        help="a compiled pipeline; default: the profile's fine_pruning",
    )
    parser.add_argument("--case", help="take the sections of cases/CASE.yaml, laid over params.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.KEY=VALUE",
        help="change one key of a stage's section, such as attack.poison.rate=0.05; may be repeated",
    )


def run_parameters(
    package: Package, *, case: str | None, given: Sequence[str], changes: Sequence[str]
) -> dict[str, Any]:
    """The parameters of a run that are not the package's defaults.

    Args:
        package: what will be run.
        case: whose sections and names to take; None for the package's own.
        given: ``key=value`` for parameters of the package.
        changes: ``stage.key=value`` for one key of a stage's section.

    Raises:
        ConfigError: one line about every argument that is unknown, mistyped or out of range.
        StorageError: a ``dvc+`` source cannot be resolved.
    """
    before = package.defaults
    values = before | (_of_case(package, case) if case else {}) | _typed(package, given)
    if missing := [name for name, value in values.items() if value is None]:
        raise ConfigError(f"{package.path}: expected {', '.join(f'{name}=…' for name in missing)}")
    values = _changed(values, changes)
    checked = {stage: _checked(stage, values) for stage in SECTIONS if stage in values}
    # What is as in the package is not sent.
    values |= {stage: checked[stage] for stage in checked if _own(stage, values) != _own(stage, before)}
    if "runs" in values:
        runs = _checked_runs(values["runs"])
        values["runs"] = values["runs"] if values["runs"] == before["runs"] else runs
    for run in (values, *values.get("runs", ())):
        if "source" in run:
            check_source(run)
    _check_public(values)
    # Whoever names both need not have the repository here; a variable of a script may be empty.
    named = {argument.partition("=")[0] for argument in given}
    by_hand = {"revision", "data_md5"} <= named and values["data_md5"] != ""
    resolved = cache(resolve)  # the runs of a sweep share sources: one clone each, and one commit for all
    values |= {} if by_hand else pinned(values, resolved)
    if "runs" in values:
        values["runs"] = [run | pinned(run, resolved) for run in values["runs"]]
    return {name: value for name, value in values.items() if value != before[name]}


def _check_public(values: Mapping[str, Any]) -> None:
    """Parameters are shown on Kubeflow's pages: no secret may be in one."""
    for name, value in values.items():
        text = json.dumps(value)
        if without_credentials(text) != text:
            raise ConfigError(f"{name}: expected an address without credentials, found one with some")


def _of_case(package: Package, case: str) -> dict[str, Any]:
    if not package.parameters.keys() & {*SECTIONS}:
        raise ConfigError(f"--case {case}: {package.path} takes no sections of a case")
    return {name: value for name, value in defaults(case).items() if name in package.parameters}


def _typed(package: Package, given: Sequence[str]) -> dict[str, Any]:
    """The ``key=value`` arguments as the types that the package has for them."""
    texts: dict[str, Text] = {}
    for argument in given:
        name, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"expected key=value, found {argument!r}")
        texts[name] = Text(value)
    if unknown := sorted(texts.keys() - package.parameters.keys()):
        known = ", ".join(package.parameters)
        raise ConfigError(f"{package.path} has no parameter {', '.join(unknown)}; it has {known}")
    # An empty text is null to the reader of YAML; as a string parameter it is just empty.
    empty = {name: "" for name, text in texts.items() if not text and _kind(package, name) == "STRING"}
    wanted = make_dataclass("Given", [(name, _TYPES[_kind(package, name)]) for name in texts], frozen=True)
    typed: dict[str, Any] = to_plain(parse(wanted, texts | empty, "parameters"))
    return typed


def _kind(package: Package, name: str) -> str:
    return package.parameters[name].kind


def _changed(values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The values with ``stage.key=value`` laid over the stages' sections."""
    changed = dict(values)
    for change in changes:
        stage, _, setting = change.partition(".")
        key = setting.partition("=")[0]
        if "=" in stage or not setting or stage not in SECTIONS or stage not in values:
            stages = ", ".join(name for name in SECTIONS if name in values) or "none here"
            raise ConfigError(f"--set {change}: expected STAGE.KEY=VALUE with a stage of {stages}")
        if (stage, key) == ("promote", "tracking_uri"):
            # The value is left out: it may hold a password.
            wins = "set mlflow.address in pipeline/settings.yaml, for a local run MLFLOW_TRACKING_URI"
            raise ConfigError(f"--set promote.tracking_uri: has no effect; {wins}")
        if own := OWN.get(stage, {}).get(key):
            raise ConfigError(f"--set {change}: {stage}.{key} is a parameter of its own, say {own}=…")
        changed[stage] = override(changed[stage], [setting])
    return changed


def _own(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a stage reads: its section, and the parameters that are keys of it."""
    return {name: values.get(name) for name in (stage, *OWN.get(stage, {}).values())}


def _checked(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The section of a stage as the stage itself will read it, less the keys that are parameters."""
    own = {key: values[name] for key, name in OWN.get(stage, {}).items() if name in values}
    config = load_stage(stage).config
    section = override(values[stage], [f"{key}={value}" for key, value in own.items()])
    plain: dict[str, Any] = without_nulls(to_plain(parse(config, section, stage)))
    return {key: value for key, value in plain.items() if key not in own}


def _checked_runs(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The runs of a sweep as their stages will read them."""
    if not runs:
        raise ConfigError("runs: expected at least one, found none")
    if len(runs) > MAX_RUNS:
        raise ConfigError(f"runs: expected at most {MAX_RUNS}, found {len(runs)}; split them into sweeps")
    wanted = sweep_runs([default_case()], ["baseline"], [0])[0].keys()
    checked = []
    for number, run in enumerate(runs):
        faults = [f"has no {name}" for name in sorted(wanted - run.keys())]
        if faults := faults + [f"knows no {name}" for name in sorted(run.keys() - wanted)]:
            raise ConfigError(f"runs[{number}]: expected {', '.join(wanted)}; it {', '.join(faults)}")
        try:
            checked.append({**run, **{stage: _checked(stage, run) for stage in SECTIONS if stage in run}})
        except ConfigError as error:
            raise ConfigError(f"runs[{number}]: {error}") from error
    _check_different(checked)
    return checked


def _check_different(runs: Sequence[Mapping[str, Any]]) -> None:
    """The table of a sweep tells its runs apart by these alone: refused now, not behind all trainings."""
    first: dict[tuple[Any, ...], int] = {}
    for number, run in enumerate(runs):
        told = run["ingest"]["name"], run["attack"]["name"], run["attack"]["seed"]
        if (other := first.setdefault(told, number)) != number:
            found = f"{', '.join(map(str, told[:2]))}, seed {told[2]}, as runs[{other}]"
            raise ConfigError(
                f"runs[{number}]: expected another ingest.name, attack.name or attack.seed, found {found}"
            )
