"""A full disk, and a stage that is killed: what is in place stays whole, and a rerun mends the rest."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from fineprune.cli import load_stage
from tests.e2e.warm import Warm
from tests.e2e.workspace import Workspace, tree

from .refusals import COMMANDS, error_lines, old_outputs

MOMENTS = [
    (stage, moment)
    for stage in COMMANDS
    for moment in ("while writing", "before the outputs appear", "between two outputs")
    if moment != "between two outputs" or len(load_stage(stage).outputs) > 1
]


def brief(stage: str, chain: Workspace, folder: Path) -> dict[str, Any]:
    """Changes that make a stage short, and that keep promote away from the chain's registry."""
    if stage == "attack":
        few = {"epochs": 1}
        return {"model": {"arguments": {"width": 16}}, "start": few, "train": few}
    if stage == "promote":
        # A copy of the store that the chain made, because MLflow takes seconds to make one.
        shutil.copy(chain.path / "mlflow.db", folder / "mlflow.db")
        return {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "registered_name": "killed"}
    return {}


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_full_disk_is_told_in_one_line_and_costs_no_old_output(
    chain: Workspace, warm: Warm, tmp_path: Path, stage: str
) -> None:
    outputs = old_outputs(stage, tmp_path)
    before = tree(tmp_path / "out")
    argv = chain.argv(COMMANDS[stage], changes=brief(stage, chain, tmp_path), **outputs)
    done = warm.run(argv, folder=tmp_path, fault={"file_size": 1000})
    lines = error_lines(done.stderr)
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"fineprune {stage}: error: ")
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(("stage", "moment"), MOMENTS)
def test_a_killed_stage_leaves_whole_outputs_and_a_rerun_mends_it(
    chain: Workspace, warm: Warm, tmp_path: Path, stage: str, moment: str
) -> None:
    outputs = old_outputs(stage, tmp_path)
    old = {port: tree(path) for port, path in outputs.items()}
    argv = chain.argv(COMMANDS[stage], changes=brief(stage, chain, tmp_path), **outputs)

    killed = warm.run(argv, folder=tmp_path, fault={"kill": moment})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    now = {port: tree(path) for port, path in outputs.items()}
    replaced = [port for port in outputs if now[port] != old[port]]
    assert len(replaced) == (moment == "between two outputs")
    assert [path for path in (tmp_path / "out").iterdir() if path.name.endswith(".partial")]

    again = warm.run(argv, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(outputs)
    for port in outputs:
        new = tree(outputs[port])
        assert "old.npy" not in new
        # What was in place before the kill was whole: the rerun makes the same of it.
        assert port not in replaced or port == "report" or new == now[port]
    report = json.loads((outputs["report"] / "report.json").read_text())
    assert report["stage"] == stage
    if stage == "promote":  # what the killed one had registered is not registered twice
        assert report["decision"]["registered_version"] == "1"
