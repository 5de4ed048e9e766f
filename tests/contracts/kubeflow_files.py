"""The Kubeflow side as data: compiled components and graph, the Dockerfile; and what is wrong with it.

Each check returns a list of problems, so that a test can also show that a seeded fault is found.
"""

import contextlib
import dataclasses
import io
import re
from collections.abc import Mapping
from typing import Any

from fineprune.cli import load_stage, stage_parser
from fineprune.stages import STAGES

from .lineage import Wired

Compiled = Mapping[str, Any]
SHOWN = {"metrics": "system.Metrics", "page": "system.HTML", "verdict": "system.Markdown"}
"""Outputs that the Kubeflow UI draws, and their types."""

SECTIONS = {"tabulate": '{"rows": parameter rows}'}
"""What stands for the section where it is not the parameter ``params``."""


def component_problems(components: Mapping[str, Compiled]) -> list[str]:
    """Everything that is wrong with the compiled components, by the name of their stage."""
    found = [f"{name}: no such stage" for name in sorted(components.keys() - STAGES.keys())]
    found += [f"{name}: has no component" for name in STAGES if name not in components]
    for name in [name for name in STAGES if name in components]:
        found += command_problems(name, components[name]) or port_problems(name, components[name])
        found += type_problems(name, components[name])
    return found


def command_problems(name: str, compiled: Compiled) -> list[str]:
    """What the stage's own parser and config say of the component's command."""
    container = _container(compiled)
    found = []
    if not container["image"].endswith(f"-{name}"):
        found.append(f"{name}: runs in the image {container['image']}")
    if list(container["command"]) != ["fineprune", name]:
        found.append(f"{name}: expected the command fineprune {name}, found {container['command']}")
    flags = [word for word in container["args"] if word.startswith("--")]
    found += [f"{name}: {flag} is given twice" for flag in {*flags} - {"--set"} if flags.count(flag) > 1]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            given = stage_parser(load_stage(name)).parse_args(filled(compiled))
    except SystemExit:
        return [*found, f"{name}: {told.getvalue().strip()}"]
    if given.params != SECTIONS.get(name, "parameter params") or given.executor_input != "executor input":
        found.append(f"{name}: expected the section and the executor input, found {given}")
    fields = {field.name for field in dataclasses.fields(load_stage(name).config)}
    keys = [setting.partition("=")[0] for setting in given.set]
    return found + [
        f"{name}: sets {key}, which its config does not know" for key in keys if key not in fields
    ]


def port_problems(name: str, compiled: Compiled) -> list[str]:
    """Flags that stand for another artifact than they say, and artifacts that stand behind no flag."""
    stage, given = load_stage(name), vars(stage_parser(load_stage(name)).parse_args(filled(compiled)))
    expected = {port: f"input {port}" for port in stage.inputs} | {
        port: f"output {port}" for port in (*stage.outputs, *stage.views)
    }
    found = [
        f"{name}: expected {place} behind --{port.replace('_', '-')}, found {given[port]}"
        for port, place in expected.items()
        if str(given[port]) != place
    ]
    declared = {f"input {artifact}" for artifact in _artifacts(compiled, "input")}
    declared |= {f"output {artifact}" for artifact in _artifacts(compiled, "output")}
    declared |= {f"output {name}" for name in _parameters(compiled, "output")}
    declared -= {"output metrics", "output confusion_matrix"}  # all of them is in the executor output
    found += [f"{name}: {extra} is declared, but no flag has it" for extra in declared - {*expected.values()}]
    words = " ".join(filled(compiled))
    return found + [
        f"{name}: nothing reads the parameter {parameter}"
        for parameter in _parameters(compiled, "input")
        if f"parameter {parameter}" not in words
    ]


def type_problems(name: str, compiled: Compiled) -> list[str]:
    """Artifacts that the Kubeflow UI would not show as what they are; a component without metrics."""
    outputs = _artifacts(compiled, "output")
    types = {
        artifact: entry["artifactType"]["schemaTitle"]
        for artifact, entry in (_artifacts(compiled, "input") | outputs).items()
    }
    found = [] if "metrics" in outputs else [f"{name}: shows no metrics"]
    models = {"control", "undefended", "pruned", "tuned", "model"}
    models |= {artifact for artifact in types if artifact.endswith(("fine_tuned", "fine_pruned", "_pruned"))}
    wanted = SHOWN | {"dataset": "system.Dataset"} | dict.fromkeys(models, "system.Model")
    wanted |= {"confusion_matrix": "system.ClassificationMetrics"}
    return found + [
        f"{name}: expected {artifact} to be a {wanted.get(artifact, 'system.Artifact')}, found {kind}"
        for artifact, kind in types.items()
        if kind != wanted.get(artifact, "system.Artifact")
    ]


def image_problems(dockerfile: str) -> list[str]:
    """Stages without a target of their own in the Dockerfile, or whose target would run as root."""
    base = {b: a for a, b in re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, re.MULTILINE)}
    blocks = dict(re.findall(r"^FROM \S+ AS (\S+)$(.*?)(?=^FROM |\Z)", dockerfile, re.MULTILINE | re.DOTALL))
    found = []
    for stage in STAGES:
        if stage not in blocks:
            found.append(f"{stage}: has no target in the Dockerfile")
            continue
        chain, target = "", stage
        while target in blocks:
            chain, target = blocks[target] + chain, base[target]
        user = re.findall(r"^USER (\S+)$", chain, re.MULTILINE)
        if not user or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user[-1]):
            found.append(f"{stage}: expected a numeric user that is not root, found {user[-1:] or 'none'}")
    return found


def image_users(dockerfile: str) -> set[str]:
    """As whom the images run, ``uid:gid``: each as its last USER says, or as what it is built on runs."""
    users: dict[str, str] = {}
    for parent, target, rest in re.findall(
        r"^FROM (\S+) AS (\S+)$(.*?)(?=^FROM|\Z)", dockerfile, re.MULTILINE | re.DOTALL
    ):
        said = re.findall(r"^USER (\S+)$", rest, re.MULTILINE)
        users[target] = said[-1] if said else users[parent]
    return {users[target] for target in (*STAGES, "mlflow")}


def wired(graph: Compiled) -> list[Wired]:
    """The tasks of a compiled pipeline as far as their wiring goes."""
    found = []
    for name, task in graph["root"]["dag"]["tasks"].items():
        executor = graph["components"][task["componentRef"]["name"]]["executorLabel"]
        stage = graph["deploymentSpec"]["executors"][executor]["container"]["command"][1]
        artifacts = task.get("inputs", {}).get("artifacts", {})
        ports = {port: _source(entry["taskOutputArtifact"]) for port, entry in artifacts.items()}
        ports |= {port: f"{name}.{port}" for port in load_stage(stage).outputs}
        found.append(Wired(name, stage, ports))
    return found


def filled(compiled: Compiled) -> list[str]:
    """The arguments of a component with every placeholder replaced by what it stands for."""
    return [_filled(word) for word in _container(compiled)["args"]]


def _filled(word: str) -> str:
    word = re.sub(r"\{\{\$\.inputs\.artifacts\['(\w+)'\]\.path\}\}", r"input \1", word)
    word = re.sub(r"\{\{\$\.outputs\.artifacts\['(\w+)'\]\.path\}\}", r"output \1", word)
    word = re.sub(r"\{\{\$\.outputs\.parameters\['(\w+)'\]\.output_file\}\}", r"output \1", word)
    word = re.sub(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}", r"parameter \1", word)
    return "executor input" if word == "{{$}}" else word


def _source(entry: Mapping[str, str]) -> str:
    return f"{entry['producerTask']}.{entry['outputArtifactKey']}"


def _container(compiled: Compiled) -> Any:
    (executor,) = compiled["deploymentSpec"]["executors"].values()
    return executor["container"]


def _body(compiled: Compiled) -> Any:
    (body,) = compiled["components"].values()
    return body


def _artifacts(compiled: Compiled, side: str) -> dict[str, Any]:
    return dict(_body(compiled).get(f"{side}Definitions", {}).get("artifacts", {}))


def _parameters(compiled: Compiled, side: str) -> dict[str, Any]:
    return dict(_body(compiled).get(f"{side}Definitions", {}).get("parameters", {}))
