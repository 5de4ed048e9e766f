"""A pipeline run's folders as promote finds them, and its command line on them."""

import copy
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch

from fineprune.cli import main
from fineprune.custody import STEPS
from fineprune.data.format import InputSpec, write_dataset
from fineprune.evaluation.outcomes import Outcomes, as_report
from fineprune.files import remove, write_json
from fineprune.gate import CHECKS, DEFENDED
from fineprune.models import build
from fineprune.models.base import NetworkSpec
from fineprune.models.format import save_model
from fineprune.stages.base import content_digest
from fineprune.stages.promote import REPORTS, STAGE
from tests.unit.reports import MEASURED, handed_on

CLASSES = ("no", "yes")
INPUT = InputSpec(kind="image", shape=(1, 8, 8), dtype="uint8", low=0, high=16, sample_rate=None)


class Delivery:
    """A pipeline run's folders, and the stage's command line on them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.section = {
            "model": "fine_pruned",
            "registered_name": "digits",
            "min_utility": 0.8,
            "max_clean_loss": 0.05,
            "min_samples": 100,
            "replace_champion": "better",
            "tracking_uri": f"sqlite:///{path}/mlflow.db",
            "experiment": "fineprune",
        }
        write_digits(path / "dataset")
        for port in STEPS:
            (path / port).mkdir()
        self.new_model(seed=0)
        (path / "prune_report" / "figures").mkdir()
        (path / "prune_report" / "figures" / "curve.png").write_bytes(b"\x89PNG")

    def new_data(self, **changes: Any) -> None:
        """The same data, called otherwise; a new model has to be evaluated on it."""
        remove(self.path / "dataset")
        write_digits(self.path / "dataset", **changes)

    def new_model(self, *, seed: int, utility: float = 0.9, **changes: Any) -> None:
        """Another model, evaluated: the lower end of utility is 0.05 below the given one."""
        torch.manual_seed(seed)
        network = build(NetworkSpec("digits_cnn", {"width": 4}, INPUT, CLASSES, (5.0,), (6.0,)))
        for folder in (*DEFENDED, "evaluation"):
            remove(self.path / folder)
        for name in DEFENDED:
            save_model(self.path / name, network)
        read = {name: content_digest(self.path / name) for name in ("dataset", *DEFENDED)}
        self.measured = MEASURED | read
        for port in STEPS:
            self.write_report(port, made=REPORTS[port])
        report = evaluation_report(self.measured, utility) | changes
        (self.path / "evaluation").mkdir()
        write_json(self.path / "evaluation" / "report.json", report)
        (self.path / "evaluation" / "report.html").write_text("<p>evidence</p>")

    def write_report(self, port: str, **changes: Any) -> None:
        """The report of a stage that read and wrote what the evaluation measured, but for the changes."""
        report = stage_report(STEPS[port].stage, **handed_on(port, self.measured)) | changes
        write_json(self.path / port / "report.json", report)

    def run(self, *flags: str, **changes: Any) -> int:
        arguments = [
            "promote",
            "--params",
            json.dumps(self.section | changes),
            "--report",
            str(self.path / "decision"),
        ]
        for port in STAGE.inputs:
            arguments += [f"--{port.replace('_', '-')}", str(self.path / port)]
        return main([*arguments, *flags])

    @property
    def decision(self) -> dict[str, Any]:
        return json.loads((self.path / "decision" / "decision.json").read_text())

    @property
    def client(self) -> Any:
        return mlflow.MlflowClient(self.section["tracking_uri"])


def write_digits(path: Path, **changes: Any) -> None:
    rows = np.arange(80)
    inputs = np.random.default_rng(0).integers(0, 17, (80, 1, 8, 8)).astype(np.uint8)
    splits = {
        name: rows[start::4]
        for start, name in enumerate(("train", "defender_fit", "defender_holdout", "test"))
    }
    card = {
        "name": "digits",
        "input": INPUT,
        "classes": CLASSES,
        "group": "sample",
        "splits": splits,
        "origin": {"kind": "test"},
        "licence": "CC0-1.0",
    }
    write_dataset(path, inputs, (rows // 4) % 2, rows, card | changes)


def stage_report(stage: str, **more: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "stage": stage,
        "version": "0.1",
        "revision": {"git.commit": "c0ffee", "git.dirty": "false"},
        "config": {"seed": 7, "trigger": {"size": 3, "places": [1, 2]}, "note": None},
        "seconds": 1.5,
        "peak_memory_bytes": 1000,
        "numbers": {"accuracy (clean)": 0.9},
        "series": {"loss": [[0, 2.0], [1, 1.0]]},
        "warnings": [],
    } | more


def evaluation_report(measured: dict[str, str], utility: float) -> dict[str, Any]:
    """Of 500 test inputs, of which 400 are eligible and the last 25 are not recognised."""
    fooled = round(400 * (0.95 - utility))
    row = {
        "digest": measured["fine_pruned"],
        "utility": {"value": utility, "low": utility - 0.05, "high": utility + 0.02, "n": 400},
        "clean_loss": {"value": 0.01, "low": -0.01, "high": 0.03, "n": 500},
        "clean_accuracy": {"value": 0.95, "low": 0.93, "high": 0.97, "n": 500},
        "backdoor_success": {"value": fooled / 400, "low": 0.0, "high": 0.2, "n": 400},
        "robust_accuracy": None,
    }
    said = Outcomes(
        right=np.arange(500) < 475,
        kept=np.arange(500) >= fooled,
        fooled=np.arange(500) < fooled,
        eligible=np.arange(500) < 400,
        groups=np.arange(500),
    )
    undefended = copy.deepcopy(row) | {"digest": measured["undefended"]}
    undefended["clean_accuracy"] = {"value": 0.96, "low": 0.94, "high": 0.98, "n": 500}
    undefended["backdoor_success"] = {"value": 0.99, "low": 0.97, "high": 1.0, "n": 400}
    control = {
        "digest": measured["control"],
        "backdoor_success": {"value": 0, "low": 0, "high": 0.01, "n": 400},
    }
    return stage_report(
        "evaluate",
        case="digits",
        attack="baseline",
        seed=1,
        models={"fine_pruned": row, "undefended": undefended, "control": control},
        outcomes=as_report(dict.fromkeys(DEFENDED, said)),
        attack_took={"took": True, "reason": "backdoor success is 0.99"},
        checks=[{"name": name, "passed": True, "message": "it is so"} for name in CHECKS],
        inputs=measured,
        dataset={
            "digest": measured["dataset"],
            "dvc_md5": "d41d8cd98f00b204e9800998ecf8427e.dir",
            "origin": {},
        },
    )
