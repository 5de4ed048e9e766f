"""The pipeline, run once for all tests that only look at what it left."""

import fcntl
import json
import os
from collections.abc import Iterator

import pytest

from .warm import Warm, warm_fineprune
from .workspace import Workspace


@pytest.fixture(scope="session", autouse=True)
def quiet_environment() -> Iterator[None]:
    """Nothing of the caller's MLflow, and no telemetry."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("DVC_NO_ANALYTICS", "true")
        yield


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    with warm_fineprune() as program:
        yield program


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Every command of dvc.yaml on the digits, the attack with its defaults; to be read only.

    With several workers one runs it and the others wait; ``codes.json`` holds the exit codes.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "chain.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        workspace = Workspace(shared / "chain")
        codes = workspace.path / "codes.json"
        if not codes.exists():
            workspace.set(finetune={"recipe": {"epochs": 2}, "stop": {"min_epochs": 1, "patience": 2}})
            codes.write_text(json.dumps({name: workspace.run(name) for name in workspace.commands}))
    return workspace


@pytest.fixture
def report(chain: Workspace):
    """A stage's report by the command's name."""

    def read(name: str) -> dict:
        return json.loads((chain.ports(name)["report"] / "report.json").read_text())

    return read
