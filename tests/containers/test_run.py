"""The committed package in containers, held against ``dvc repro`` on the same params."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

from pipeline.__main__ import main
from pipeline.containers import LOG
from tests.e2e.workspace import Workspace

from .conftest import CONSOLE, PLANTED, THRESHOLDS
from .packages import Local, promote_only

# The report of a stage of dvc.yaml: the stage's task.
TASKS = {
    "ingest/report": "ingest",
    "attack/report": "attack",
    "profile/undefended/report": "profile",
    "profile/control/report": "profile-2",
    "prune/undefended/report": "prune",
    "prune/control/report": "prune-2",
    "finetune/fine_tuned/report": "finetune",
    "finetune/fine_pruned/report": "finetune-2",
    "finetune/control_fine_pruned/report": "finetune-3",
    "evaluate": "evaluate",
    "promote": "promote",
}


@pytest.fixture(scope="module")
def repro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``artifacts`` of ``dvc repro`` with the thresholds of the run."""
    workspace = Workspace(tmp_path_factory.mktemp("repro") / "project")
    workspace.set(promote=THRESHOLDS)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    for argv in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"], ["dvc", "repro", "--quiet"]):
        done = subprocess.run(argv, cwd=workspace.path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return workspace.path / "artifacts"


def test_numbers_of_every_stage_are_those_of_dvc_repro(run: Local, repro: Path) -> None:
    for folder, task in TASKS.items():
        there = json.loads((repro / folder / "report.json").read_text())
        here = run.report(task)
        assert here["numbers"] == there["numbers"], task
        assert here["series"] == there["series"], task


def test_run_ends_with_the_table_and_the_verdict_of_dvc_repro(run: Local, repro: Path) -> None:
    here, there = run.outputs / "evaluate" / "report", repro / "evaluate"
    assert (here / "table.txt").read_text() == (there / "table.txt").read_text()
    decisions = [
        json.loads((folder / "decision.json").read_text())
        for folder in (run.outputs / "promote" / "report", repro / "promote")
    ]
    for key in ("verdict", "reasons", "registered_name", "registered_version", "alias", "model_digest"):
        assert decisions[0][key] == decisions[1][key], key
    assert decisions[0]["verdict"] == "promoted"


def test_champion_is_in_the_registry(run: Local) -> None:
    decision = json.loads((run.outputs / "promote" / "report" / "decision.json").read_text())
    assert run.registered["fineprune-digits"] == {"champion": decision["registered_version"]}


def test_held_verdict_exits_with_3_and_leaves_the_champion(
    run: Local, environment: None, registry: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = registry()
    package = promote_only(tmp_path / "package.yaml", run.outputs, min_utility=0.9999)
    assert main(["local", "--folder", str(run.folder), "--package", str(package)]) == 3
    assert "held: fine_pruned" in capsys.readouterr().out
    assert registry()["fineprune-digits"]["champion"] == before["fineprune-digits"]["champion"]


def test_no_secret_is_in_the_outputs_or_the_logs(run: Local, stack: Mapping[str, str]) -> None:
    secrets = [text.encode() for text in (stack["AWS_SECRET_ACCESS_KEY"], *PLANTED.values())]
    files = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert b"promoted" in files[run.folder / CONSOLE]
    assert b"Executing task" in files[run.folder / CONSOLE]
    assert sum(path.name == LOG for path in files) >= len(TASKS)
    assert [path for path, content in files.items() if any(secret in content for secret in secrets)] == []


def test_every_stage_leaves_its_log_and_nothing_of_a_container(run: Local, images: DockerClient) -> None:
    assert {path.parent.name for path in run.outputs.glob(f"*/{LOG}")} == set(TASKS.values())
    left = [box.name for box in images.containers.list(all=True) if "fineprune:" in str(box.image.tags)]
    assert left == []
