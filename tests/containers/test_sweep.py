"""The committed sweep in containers: each run measured apart, all of them in one table, nothing promoted."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

from pipeline.__main__ import main
from pipeline.parameters import sweep_runs

SWEEP = Path(__file__).parents[2] / "pipeline" / "compiled" / "fine_pruning_sweep.yaml"


def brief(run: dict[str, Any]) -> dict[str, Any]:
    """The run with as little training as will do."""
    attack, finetune = run["attack"], run["finetune"]
    attack["start"]["epochs"] = attack["train"]["epochs"] = finetune["recipe"]["epochs"] = 1
    finetune["stop"] = {"min_epochs": 1, "patience": 1}
    return run


def test_sweep_puts_what_each_run_measured_into_one_table(
    images: DockerClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [brief(run) for run in sweep_runs(["digits"], ["baseline"], [3, 4])]
    folder = tmp_path / "sweep"
    assert main(["local", "--folder", str(folder), "--package", str(SWEEP), f"runs={json.dumps(runs)}"]) == 0
    assert "## digits, baseline, seeds 3, 4" in capsys.readouterr().out
    (outputs,) = (folder / "outputs").iterdir()
    table = list(csv.DictReader((outputs / "tabulate" / "report" / "table.csv").read_text().splitlines()))
    found = {(int(line["seed"]), line["model"]): float(line["clean_accuracy"]) for line in table}
    expected = {}
    for path in outputs.glob("*-iteration-*/evaluate/report/report.json"):
        report = json.loads(path.read_text())
        for name, model in report["models"].items():
            expected[report["seed"], name] = round(model["clean_accuracy"]["value"], 9)
    assert {seed for seed, _ in expected} == {3, 4}
    assert found == expected
