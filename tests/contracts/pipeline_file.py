"""dvc.yaml as data: its templates filled in, and every way in which it can disagree with the stages.

Each check returns a list of problems, so that a test can also show that a seeded fault is found.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from fineprune.cli import load_stage, stage_parser
from fineprune.stages import STAGES

from .lineage import Wired, lineage_problems

ROOT = Path(__file__).parents[2]
SWEEP = ("tabulate",)
"""Stages that look at several pipeline runs, and so are no part of one."""


@dataclass(frozen=True)
class Command:
    """One command as DVC would run it: ``name`` is ``prune@control``, ``stage`` is ``prune``."""

    name: str
    stage: str
    argv: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    not_persistent: tuple[str, ...]
    params: Mapping[str, tuple[str, ...]]


def commands(pipeline: Mapping[str, Any], variables: Mapping[str, Any]) -> list[Command]:
    """Every command of a loaded dvc.yaml, with ``matrix``, ``foreach`` and ``${…}`` resolved."""
    return [
        _command(name, program(stage), filled)
        for stage, entry in pipeline["stages"].items()
        for name, filled in _instances(stage, entry, variables)
    ]


def program(entry: str) -> str:
    """The stage of an entry, which may add what tells it from another: ``attack_with_control``."""
    return entry.partition("_")[0]


def ports(command: Command) -> dict[str, str]:
    """The path behind each flag of a command that parses: ``{"fine_tuned": "artifacts/…"}``."""
    stage = load_stage(command.stage)
    values = vars(stage_parser(stage).parse_args(command.argv[2:]))
    return {
        port: str(values[port]) for port in (*stage.inputs, *stage.optional, *stage.outputs) if values[port]
    }


def wired(all_commands: Sequence[Command]) -> list[Wired]:
    """The commands as far as their wiring goes."""
    return [Wired(command.name, command.stage, ports(command)) for command in all_commands]


def problems(pipeline: Mapping[str, Any], variables: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a dvc.yaml; the later checks need commands that parse."""
    found = unknown_and_missing_stages(pipeline)
    if found:
        return found
    all_commands = commands(pipeline, variables)
    case_file = f"cases/{variables['case']}.yaml"
    found = [text for command in all_commands for text in flag_problems(command, case_file)]
    found += [text for command in all_commands for text in params_problems(command, case_file)]
    if found:
        return found
    found = [text for command in all_commands for text in path_problems(command)]
    found += metrics_problems(pipeline, all_commands)
    return found or lineage_problems(wired(all_commands))


def unknown_and_missing_stages(pipeline: Mapping[str, Any]) -> list[str]:
    """Stages of dvc.yaml that are no program, and programs that dvc.yaml does not run."""
    told = set(pipeline["stages"])
    return [f"{name}: no such stage" for name in sorted(told - set(STAGES))] + [
        f"{name}: missing in dvc.yaml" for name in STAGES if name not in told and name not in SWEEP
    ]


def flag_problems(command: Command, *case_files: str) -> list[str]:
    """What the stage's own parser says of the command; abbreviated flags, and the params files."""
    if command.argv[:2] != ("fineprune", command.stage):
        return [f"{command.name}: expected fineprune {command.stage}, found {' '.join(command.argv[:2])}"]
    parser, told = stage_parser(load_stage(command.stage)), io.StringIO()
    flags = [word for word in command.argv if word.startswith("--")]
    found = [
        f"{command.name}: {flag} is no flag of {command.stage}"
        for flag in flags
        if flag not in parser._option_string_actions
    ]
    found += [
        f"{command.name}: {flag} is given twice"
        for flag in sorted(set(flags) - {"--config", "--set"})
        if flags.count(flag) > 1
    ]
    try:
        with contextlib.redirect_stderr(told):
            values = parser.parse_args(command.argv[2:])
    except SystemExit:
        return [*found, f"{command.name}: {told.getvalue().strip()}"]
    files, expected = [str(path) for path in values.config or ()], ["params.yaml", *case_files]
    if files != expected:
        words = " ".join(f"--config {file}" for file in expected)
        found.append(f"{command.name}: expected {words}, found {files}")
    return found


def params_problems(command: Command, *case_files: str) -> list[str]:
    """Tracked params that are not exactly the stage's section, in every file.

    Of a section of params.yaml of which the command itself sets keys, it is the other keys.
    """
    expected = dict.fromkeys(("params.yaml", *case_files), (command.stage,))
    if own := [setting.partition("=")[0] for setting in settings(command)]:
        section = yaml.safe_load((ROOT / "params.yaml").read_text())[command.stage]
        expected["params.yaml"] = tuple(f"{command.stage}.{key}" for key in section if key not in own)
        expected = {file: keys for file, keys in expected.items() if keys}
    if dict(command.params) == expected:
        return []
    return [f"{command.name}: expected to track the params {expected}, found {dict(command.params)}"]


def settings(command: Command) -> list[str]:
    """What the command gives to ``--set``."""
    return [word for before, word in zip(command.argv, command.argv[1:], strict=False) if before == "--set"]


def path_problems(command: Command) -> list[str]:
    """Paths of the command that DVC does not know of, and paths of DVC that the command does not have."""
    stage, given = load_stage(command.stage), ports(command)
    inputs = {given[port] for port in (*stage.inputs, *stage.optional) if port in given}
    outputs = {given[port] for port in stage.outputs}
    found = [
        f"{command.name}: {path} is read but is no dep"
        for path in sorted(inputs)
        if not any(_within(path, dep) for dep in command.deps)
    ]
    found += [
        f"{command.name}: {path} is written but is no out" for path in sorted(outputs - set(command.outs))
    ]
    found += [
        f"{command.name}: {dep} is a dep but is not read"
        for dep in command.deps
        if not any(_within(path, dep) for path in inputs)
    ]
    found += [
        f"{command.name}: {out} is an out but is not written" for out in command.outs if out not in outputs
    ]
    found += [f"{command.name}: {path} is both read and written" for path in sorted(inputs & outputs)]
    return found + [f"{command.name}: {path} is an out without persist" for path in command.not_persistent]


def metrics_problems(pipeline: Mapping[str, Any], all_commands: Sequence[Command]) -> list[str]:
    """Files that DVC shows as metrics but that no stage writes."""
    outs = [out for command in all_commands for out in command.outs]
    metrics = pipeline.get("metrics", ())
    return [
        f"{path}: shown as metrics, but no stage writes it"
        for path in metrics
        if not any(_within(path, o) for o in outs)
    ]


def _instances(
    stage: str, entry: Mapping[str, Any], variables: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entry once per item of its ``matrix`` or ``foreach``, filled in."""
    if "foreach" in entry:
        for key, item in entry["foreach"].items():
            yield f"{stage}@{key}", _fill(entry["do"], {**variables, "key": key, "item": item})
    elif "matrix" in entry:
        body = {name: value for name, value in entry.items() if name != "matrix"}
        matrix = {name: _members(name, values, variables) for name, values in entry["matrix"].items()}
        for chosen in product(*matrix.values()):
            item = {name: value for name, (_, value) in zip(matrix, chosen, strict=True)}
            words = "-".join(word for word, _ in chosen)
            yield f"{stage}@{words}", _fill(body, {**variables, "item": item})
    else:
        yield stage, _fill(entry, variables)


def _members(name: str, values: Any, variables: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What an axis of a matrix runs over, each with DVC's word for it; ``${…}`` stands for a list."""
    listed = _look_up(values[2:-1], variables) if isinstance(values, str) else values
    return [
        (f"{name}{number}" if isinstance(value, Mapping) else str(value), value)
        for number, value in enumerate(listed)
    ]


def _fill(value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\$\{([^}]+)\}", lambda match: str(_look_up(match[1], variables)), value)
    if isinstance(value, Mapping):
        return {_fill(key, variables): _fill(item, variables) for key, item in value.items()}
    return [_fill(item, variables) for item in value] if isinstance(value, list) else value


def _look_up(name: str, variables: Mapping[str, Any]) -> Any:
    found: Any = variables
    for part in name.strip().split("."):
        found = found[part]
    return found


def _command(name: str, stage: str, entry: Mapping[str, Any]) -> Command:
    outs = [
        next(iter(out.items())) if isinstance(out, Mapping) else (out, {}) for out in entry.get("outs", ())
    ]
    params: dict[str, tuple[str, ...]] = {}
    for tracked in entry.get("params", ()):
        files = tracked if isinstance(tracked, Mapping) else {"params.yaml": [tracked]}
        for file, keys in files.items():
            params[file] = (*params.get(file, ()), *(keys or ("everything",)))
    return Command(
        name=name,
        stage=stage,
        argv=tuple(entry["cmd"].split()),
        deps=tuple(entry.get("deps", ())),
        outs=tuple(path for path, _ in outs),
        not_persistent=tuple(path for path, options in outs if not options.get("persist")),
        params=params,
    )


def _within(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)
