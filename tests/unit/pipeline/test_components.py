"""The components: one per stage, plain commands, light to import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp import compiler

import components
from components import COMPONENTS

ROOT = Path(components.__file__).parents[1]
MUST_NOT_LOAD = ("torch", "fineprune", "mlflow", "boto3", "dvc", "numpy", "pipeline")


def compiled(name: str, folder: Path) -> dict:
    path = folder / f"{name}.yaml"
    compiler.Compiler().compile(COMPONENTS[name], str(path))
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_is_its_stage_s_command_in_its_stage_s_image(name: str, tmp_path: Path) -> None:
    container = compiled(name, tmp_path)["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    assert container["command"] == ["fineprune", name]
    assert container["image"] == f"fineprune:{components.VERSION}-{name}"
    assert container["args"][-2:] == ["--executor-input", "{{$}}"]


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_port_is_described(name: str, tmp_path: Path) -> None:
    component = compiled(name, tmp_path)["components"][f"comp-{name}"]
    ports = [
        (port, spec.get("description"))
        for side in ("inputDefinitions", "outputDefinitions")
        for kind in ("artifacts", "parameters")
        for port, spec in component.get(side, {}).get(kind, {}).items()
    ]
    assert ports
    assert [port for port, description in ports if not description] == []


@pytest.mark.parametrize("name", COMPONENTS)
def test_no_argument_needs_what_the_backend_does_not_replace(name: str, tmp_path: Path) -> None:
    """Neither structured placeholders nor the run's are replaced in a command (launcher_v2.go)."""
    container = compiled(name, tmp_path)["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    text = json.dumps(container["args"])
    assert not [word for word in ("Concat", "IfPresent", "{{$.pipeline_") if word in text]


def test_there_is_one_file_per_component() -> None:
    files = {path.stem for path in Path(components.__file__).parent.glob("*.py")}
    assert files - {"__init__", "images"} == set(COMPONENTS)


def test_importing_the_components_needs_kfp_alone() -> None:
    program = f"import sys, components; print([m for m in {MUST_NOT_LOAD} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
