"""One stage, told once: components, graph, images and settings agree with the programs and with dvc.yaml."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.compiler import Compiler

from components import COMPONENTS, VERSION
from fineprune import __version__
from fineprune.cli import load_stage
from fineprune.stages import STAGES
from pipeline.parameters import OWN, SECTIONS
from pipeline.settings import load

from .kubeflow_files import component_problems, image_problems, image_users, wired
from .lineage import LINEAGE, lineage, lineage_problems
from .pipeline_file import SWEEP, commands
from .pipeline_file import wired as wired_by_dvc

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("compiled")
    for name, component in COMPONENTS.items():
        Compiler().compile(component, str(folder / f"{name}.yaml"))
    return {name: yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in COMPONENTS}


@pytest.fixture(scope="module")
def graph() -> dict[str, Any]:
    return next(yaml.safe_load_all((ROOT / "pipeline/compiled/fine_pruning.yaml").read_text()))


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "docker/Dockerfile").read_text()


def test_the_components_tell_the_stages_as_the_programs_do(components: dict[str, Any]) -> None:
    assert component_problems(components) == []


def test_a_component_lies_in_the_file_of_its_stage() -> None:
    files = {path.stem for path in (ROOT / "components").glob("*.py")} - {"__init__", "images"}
    assert files == set(STAGES) == set(COMPONENTS)


def test_the_components_are_of_the_programs_version() -> None:
    assert __version__ == VERSION


def test_every_stage_has_an_image_that_runs_as_the_user_of_the_settings(dockerfile: str) -> None:
    assert image_problems(dockerfile) == []
    security = load().security
    assert image_users(dockerfile) == {f"{security.user}:{security.group}"}


def test_the_graph_gives_every_flag_what_it_stands_for(graph: dict[str, Any]) -> None:
    assert lineage_problems(wired(graph)) == []


def test_the_graph_runs_the_same_steps_as_dvc_yaml(graph: dict[str, Any]) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    local = wired_by_dvc(commands(yaml.safe_load((ROOT / "dvc.yaml").read_text()), params))
    cluster = wired(graph)

    def steps(told: Any) -> list[str]:
        return sorted(lineage(command.ports["report"], told) for command in told)

    assert steps(cluster) == steps(local)


def test_every_section_and_no_other_is_a_parameter_of_the_graph(graph: dict[str, Any]) -> None:
    assert set(SECTIONS) == set(STAGES) - set(SWEEP)
    parameters = set(graph["root"]["inputDefinitions"]["parameters"])
    assert parameters == {*SECTIONS, *(name for own in OWN.values() for name in own.values())}


def test_every_stage_has_settings() -> None:
    for profile in ("gpu", "cpu"):
        assert set(dict(load(profile).stages.items())) == set(STAGES)


# From here on: the checks above find what they are for.


def _args(components: Any, stage: str) -> list[str]:
    (executor,) = components[stage]["deploymentSpec"]["executors"].values()
    return executor["container"]["args"]


def _body(components: Any, stage: str) -> Any:
    (body,) = components[stage]["components"].values()
    return body


def _swapped_outputs(components: Any) -> None:
    args = _args(components, "attack")
    one, other = args.index("--control") + 1, args.index("--undefended") + 1
    args[one], args[other] = args[other], args[one]


def _renamed_flag(components: Any) -> None:
    args = _args(components, "prune")
    args[args.index("--pruned")] = "--out"


def _undeclared_output(components: Any) -> None:
    del _body(components, "profile")["outputDefinitions"]["artifacts"]["profile"]
    args = _args(components, "profile")
    args[args.index("--profile") + 1] = "/tmp/profile"


def _output_of_nobody(components: Any) -> None:
    artifacts = _body(components, "finetune")["outputDefinitions"]["artifacts"]
    artifacts["log"] = artifacts["report"]


def _missing_component(components: Any) -> None:
    del components["evaluate"]


def _unknown_component(components: Any) -> None:
    components["distil"] = components["prune"]


def _another_image(components: Any) -> None:
    (executor,) = components["promote"]["deploymentSpec"]["executors"].values()
    executor["container"]["image"] = "fineprune:0.1.0-evaluate"


def _unknown_param(components: Any) -> None:
    _args(components, "promote").extend(["--set", "min_samples_per_class=3"])


def _unread_param(components: Any) -> None:
    args = _args(components, "ingest")
    at = next(i for i, word in enumerate(args) if word.startswith("source="))
    del args[at - 1 : at + 1]


def _missing_input(components: Any) -> None:
    args = _args(components, "evaluate")
    at = args.index("--control")
    del args[at : at + 2]


def _model_shown_as_text(components: Any) -> None:
    artifacts = _body(components, "finetune")["outputDefinitions"]["artifacts"]
    artifacts["tuned"]["artifactType"]["schemaTitle"] = "system.Markdown"


COMPONENT_FAULTS = {
    _swapped_outputs: "attack: expected output control behind --control, found output undefended",
    _renamed_flag: "prune: fineprune prune: error: the following arguments are required: --pruned",
    _undeclared_output: "profile: expected output profile behind --profile, found /tmp/profile",
    _output_of_nobody: "finetune: output log is declared, but no flag has it",
    _missing_component: "evaluate: has no component",
    _unknown_component: "distil: no such stage",
    _another_image: "promote: runs in the image fineprune:0.1.0-evaluate",
    _unknown_param: "promote: sets min_samples_per_class, which its config does not know",
    _unread_param: "ingest: nothing reads the parameter source",
    _missing_input: "required: --control",
    _model_shown_as_text: "finetune: expected tuned to be a system.Model, found system.Markdown",
}


@pytest.mark.parametrize("fault", COMPONENT_FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_fault_seeded_in_a_component_is_found(
    components: dict[str, Any], fault: Callable[[Any], None]
) -> None:
    faulty = copy.deepcopy(components)
    fault(faulty)
    found = component_problems(faulty)
    assert any(COMPONENT_FAULTS[fault] in problem for problem in found), found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("AS prune\n", "AS cut\n", "prune: has no target in the Dockerfile"),
        (
            "USER 10001:10001\n\nFROM program AS attack",
            "\nFROM program AS attack",
            "attack: expected a numeric user",
        ),
        ("USER 10001:10001", "USER root", "promote: expected a numeric user that is not root"),
    ],
)
def test_a_fault_seeded_in_the_dockerfile_is_found(
    dockerfile: str, old: str, new: str, expected: str
) -> None:
    assert old in dockerfile
    found = image_problems(dockerfile.replace(old, new))
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("task", "port", "producer", "output", "expected"),
    [
        ("evaluate", "control", "attack", "undefended", "expected attack.control behind --control"),
        ("evaluate", "pruned", "prune-2", "pruned", "expected prune.pruned(attack.undefended)"),
        ("promote", "fine_pruned", "finetune", "tuned", "expected finetune.tuned(prune.pruned("),
        ("promote", "control_prune_report", "prune", "report", "expected prune.report(attack.control)"),
        ("prune", "profile", "profile-2", "profile", "expected profile.profile(attack.undefended)"),
    ],
)
def test_a_fault_seeded_in_the_graph_is_found(
    graph: dict[str, Any], task: str, port: str, producer: str, output: str, expected: str
) -> None:
    faulty: Any = copy.deepcopy(graph)
    entry = faulty["root"]["dag"]["tasks"][task]["inputs"]["artifacts"][port]["taskOutputArtifact"]
    entry.update(producerTask=producer, outputArtifactKey=output)
    found = lineage_problems(wired(faulty))
    assert any(expected in problem for problem in found), found


def test_every_input_of_every_stage_has_a_lineage() -> None:
    stages = [load_stage(name) for name in STAGES]
    known = {*LINEAGE, "model", "profile"}
    assert {port for stage in stages for port in (*stage.inputs, *stage.optional)} <= known
