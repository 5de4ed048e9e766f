"""``dvc repro``: what runs, what does not, and how it goes on after a failure."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .warm import Warm
from .workspace import Workspace

TINY = {
    "attack": {
        "model": {"arguments": {"width": 4}},
        "start": {"epochs": 1},
        "train": {"epochs": 1},
    },
    "finetune": {"recipe": {"epochs": 1}, "stop": {"min_epochs": 1, "patience": 1}},
}
NOBODY_LISTENS = "http://127.0.0.1:9"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "project")
    workspace.set(**TINY)
    return workspace


@pytest.fixture
def run(workspace: Workspace, warm: Warm) -> Run:
    """A program in the workspace, with the warm ``fineprune`` on its PATH."""

    def call(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=workspace.path,
            env=warm.environment(**environment),
            capture_output=True,
            text=True,
            timeout=300,
        )

    assert call("git", "init", "--quiet").returncode == 0
    assert call("dvc", "init", "--quiet").returncode == 0
    return call


def started(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The commands that ``dvc repro`` ran."""
    return re.findall(r"^Running stage '([^']+)'", done.stdout, flags=re.MULTILINE)


def test_repro_runs_what_changed_and_nothing_else(workspace: Workspace, run: Run) -> None:
    first = run("dvc", "repro")
    assert first.returncode == 0, first.stderr
    assert sorted(started(first)) == sorted(workspace.commands)

    lock = yaml.safe_load((workspace.path / "dvc.lock").read_text())["stages"]
    # What the contract tests take for the command is what DVC itself ran.
    assert {name: tuple(entry["cmd"].split()) for name, entry in lock.items()} == {
        name: command.argv for name, command in workspace.commands.items()
    }

    assert started(run("dvc", "repro")) == ["promote"]  # the registry may have changed

    params = yaml.safe_load((workspace.path / "params.yaml").read_text())
    params["finetune"]["seed"] = 1
    (workspace.path / "params.yaml").write_text(yaml.safe_dump(params))
    failed = run("dvc", "repro", MLFLOW_TRACKING_URI=NOBODY_LISTENS)
    tuned = [name for name in workspace.commands if name.startswith("finetune@")]
    assert failed.returncode != 0
    assert sorted(started(failed)) == sorted([*tuned, "evaluate", "promote"])
    told = [line for line in failed.stderr.splitlines() if line.startswith("fineprune ")]
    assert len(told) == 1
    assert told[0].startswith(f"fineprune promote: error: {NOBODY_LISTENS}: no answer from MLflow: ")
    assert "Traceback" not in failed.stderr

    after = run("dvc", "repro")
    assert after.returncode == 0, after.stderr
    assert started(after) == ["promote"]
