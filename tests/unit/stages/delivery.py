"""A pipeline run's folders as promote finds them, and its command line on them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch

from fineprune.cli import main
from fineprune.custody import STEPS
from fineprune.data.format import write_dataset
from fineprune.data.inputs import InputSpec
from fineprune.evaluation.metrics import measure
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
TOOK = {"took": {"min_backdoor_success": 0.9, "max_clean_cost": 0.02}}
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

    def measured_row(self, model: str) -> dict[str, Any]:
        """What the evaluation's report has of a model."""
        return json.loads((self.path / "evaluation" / "report.json").read_text())["models"][model]

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
    """Of 500 test inputs, of which 400 are eligible; a defended model does not recognise the last 25."""
    defended = outcomes(unknown=25, fooled=round(400 * (0.95 - utility)))
    said = {"undefended": outcomes(unknown=20, fooled=396), "control": outcomes(unknown=20, fooled=0)}
    said |= dict.fromkeys(DEFENDED, defended)
    models = {
        name: asdict(measure(one, before=said["undefended"] if name in DEFENDED else None))
        | {"digest": measured[name]}
        for name, one in said.items()
    }
    return stage_report(
        "evaluate",
        case="digits",
        attack="baseline",
        seed=1,
        config={"batch_size": 8, "limits": {"min_control_accuracy": 0.9, "max_control_success": 0.3}},
        models={name: models[name] for name in ("fine_pruned", "undefended", "control")},
        outcomes=as_report({name: said[name] for name in ("undefended", *DEFENDED)}),
        attack_details=TOOK,
        attack_took={"took": True, "reason": "backdoor success is 0.99"},
        checks=[{"name": name, "passed": True, "message": "it is so"} for name in CHECKS],
        inputs=measured,
        dataset={
            "digest": measured["dataset"],
            "dvc_md5": "d41d8cd98f00b204e9800998ecf8427e.dir",
            "origin": {},
        },
    )


def outcomes(*, unknown: int, fooled: int) -> Outcomes:
    """Of a model that does not recognise the last inputs, and is fooled in the first."""
    inputs = np.arange(500)
    right, taken = inputs < 500 - unknown, inputs < fooled
    return Outcomes(right, kept=right & ~taken, fooled=taken, eligible=inputs < 400, groups=inputs)
