"""The paper's three cases through every stage, small and offline: from drawn or spoken data to a decision."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .workspace import Workspace

BRIEF: dict[str, Any] = {"epochs": 1, "batch_size": 8}
TUNE: dict[str, Any] = {"recipe": BRIEF, "stop": {"min_epochs": 1, "patience": 1}}
TRAIN: dict[str, Any] = {"start": BRIEF, "train": BRIEF}

FACES = {
    "ingest": {"generator": {"identities": 3, "sessions": 8, "frames": 2}},
    "attack": {"name": "pruning_aware", "model": {"arguments": {"width": 0.2}}, **TRAIN},
}
SPEECH = {
    "ingest": {
        "generator": {"voices": [f"en-us+{sex}{i}" for sex in "mf" for i in (1, 2, 3)], "rates": [150, 200]}
    },
    "attack": {"model": {"arguments": {"width": 0.05}}, **TRAIN},
}
SIGNS = {
    "ingest": {
        "generator": {
            "tracks": 30,
            "frames": 1,
            "height": 64,
            "width": 96,
            "smallest_sign": 24,
            "largest_sign": 40,
        },
        "reader": {"height": 64, "width": 96},
    },
    "attack": {"model": {"arguments": {"width": 0.05}}, **TRAIN},
}


@pytest.mark.parametrize(
    ("case", "changes"),
    [("faces", FACES), ("speech", SPEECH), ("signs", SIGNS)],
    ids=["faces", "speech", "signs"],
)
def test_every_stage_runs_to_a_decision(case: str, changes: dict[str, Any], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "case", case)
    brief = {"pruning_aware": {"rounds": 1, "min_active": 0.0, "decoys": 0.25}}
    # MLflow keeps a relative address open for the whole process, wherever it was first used.
    promote = {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    attack = {**changes["attack"], **brief}
    workspace.set(**{**changes, "attack": attack, "finetune": TUNE, "promote": promote})
    codes = {name: workspace.run(name) for name in workspace.commands}
    assert set(codes.values()) == {0}, codes

    card = json.loads((workspace.ports("ingest")["dataset"] / "dataset.json").read_text())
    assert card["licence"] == "synthetic"
    report = json.loads((workspace.ports("evaluate")["report"] / "report.json").read_text())
    channels = len(report["pruning"]["order"])
    assert sorted(report["pruning"]["order"]) == list(range(channels))
    assert {len(rates) for rates in report["pruning"]["curve"].values()} == {channels + 1}
    first, clean = report["pruning"]["curve"]["clean accuracy"][0], report["models"]["undefended"]
    assert np.isclose(first, clean["clean_accuracy"]["value"]), "the curve begins where nothing is pruned"
    wanted = {"clean_accuracy"} | ({"average_precision"} if case == "signs" else set())
    assert set(report["by_class"]) == wanted
    for name, figure in report["by_class"].items():
        assert {one["class"] for one in figure} <= set(card["classes"])
        assert (workspace.ports("evaluate")["report"] / "figures" / f"{name}_by_class.png").is_file()
    counts = [one["undefended"]["n"] for one in report["by_class"]["clean_accuracy"]]
    assert sum(counts) == clean["clean_accuracy"]["n"], "no class is left out where there are few"
    decision = json.loads((workspace.ports("promote")["report"] / "decision.json").read_text())
    assert decision["verdict"] in ("promoted", "held")
