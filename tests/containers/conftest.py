"""Docker Engine, the stages' images, the MLflow stack and one run of the pipeline, once for all tests."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from docker.client import DockerClient

from pipeline import containers

from .packages import Local

ROOT = Path(__file__).parents[2]
THRESHOLDS = {"min_utility": 0.0, "max_clean_loss": 0.5}
PLANTED = {
    "AWS_SESSION_TOKEN": "planted-aws-token",
    "MLFLOW_TRACKING_USERNAME": "planted-mlflow-user",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
}
"""Secrets that lie about when the images are built and run, beside those of the stack."""

PLANTED_INDEX = "planted-index.invalid"

CONSOLE = "console.txt"
"""What a run printed, and kfp in it, among what it left."""


@pytest.fixture(scope="session")
def shown(request: pytest.FixtureRequest) -> Any:
    """Run a program with its output shown as it comes, for it takes minutes; gives the output."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def run(*argv: str, **environment: str) -> str:
        said = []
        with capture.global_and_fixture_disabled():
            print(f"\n$ {' '.join(argv)}", flush=True)
            with subprocess.Popen(
                argv,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                for line in process.stdout:
                    print(line, end="", flush=True)
                    said.append(line)
        assert process.returncode == 0, argv
        return "".join(said)

    return run


@pytest.fixture(scope="session")
def engine(shown: Any) -> Iterator[DockerClient]:
    shown("docker/engine.sh")
    with closing(containers.engine()) as client:
        yield client


@pytest.fixture(scope="session")
def images(engine: DockerClient, shown: Any) -> DockerClient:
    shown(sys.executable, "docker/images.py", "--torch", "cpu", PIP_TRUSTED_HOST=PLANTED_INDEX, **PLANTED)
    return engine


@pytest.fixture(scope="session")
def stack(shown: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the stack's clients."""
    folder = tmp_path_factory.mktemp("stack")
    # The server that PostgreSQL needs runs as a user of its own, who must get to its data.
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    program = (sys.executable, "docker/stack.py", "--folder", str(folder), "--how", "packages")
    shown(*program, "start")
    told = subprocess.run([*program, "env"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = [word for word in shlex.split(told) if word != "export"]
    yield dict(word.split("=", 1) for word in words)
    shown(*program, "stop")


@pytest.fixture
def environment(stack: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack's environment, and nothing of the caller's."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    for name, value in stack.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def registry(stack: Mapping[str, str]) -> Any:
    """Every registered model with the versions of its aliases, as the server tells it now."""

    def ask() -> dict[str, Any]:
        address = f"{stack['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/search"
        answer = requests.get(address, timeout=30)
        assert answer.ok, answer.text
        models = json.loads(answer.text).get("registered_models", [])
        return {
            model["name"]: {alias["alias"]: alias["version"] for alias in model.get("aliases", [])}
            for model in models
        }

    return ask


@pytest.fixture(scope="session")
def run(
    images: DockerClient,
    stack: Mapping[str, str],
    registry: Any,
    shown: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Local:
    """The committed package on the digits, with thresholds that it passes; to be read only."""
    folder = tmp_path_factory.mktemp("kubeflow")
    thresholds = [f"{name}={value}" for name, value in THRESHOLDS.items()]
    command = (sys.executable, "-m", "pipeline", "local", "--folder", str(folder))
    said = shown(*command, *thresholds, **stack, **PLANTED)
    (folder / CONSOLE).write_text(said + (folder / "kfp.log").read_text())  # another run writes its own
    return Local(folder, registry())
