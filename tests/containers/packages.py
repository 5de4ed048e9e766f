"""Compiled packages cut down for one fault, and what a local run left."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, dsl

from components import COMPONENTS
from pipeline.parameters import OWN, defaults

COMPILED = Path(__file__).parents[2] / "pipeline" / "compiled" / "fine_pruning.yaml"
Spec = dict[str, Any]


@dataclass(frozen=True)
class Local:
    """The folder of one local run, and what the registry held when it was done."""

    folder: Path
    registered: dict[str, dict[str, str]]

    @property
    def outputs(self) -> Path:
        """The folder of the tasks."""
        (found,) = (self.folder / "outputs").glob("fine-pruning-*")
        return found

    def report(self, task: str) -> dict[str, Any]:
        """The report of a task."""
        return json.loads((self.outputs / task / "report" / "report.json").read_text())


def ingest_only(target: Path, change: Callable[[Spec], object] = lambda container: None) -> Path:
    """The committed package with ingest as its only task, after ``change(container)``."""
    spec = next(iter(yaml.safe_load_all(COMPILED.read_text())))
    tasks = {"ingest": spec["root"]["dag"]["tasks"]["ingest"]}
    spec["root"]["dag"] = {"tasks": tasks}
    spec["root"].pop("outputDefinitions", None)
    spec["components"] = {"comp-ingest": spec["components"]["comp-ingest"]}
    spec["deploymentSpec"]["executors"] = {"exec-ingest": spec["deploymentSpec"]["executors"]["exec-ingest"]}
    spec = copy.deepcopy(spec)
    change(spec["deploymentSpec"]["executors"]["exec-ingest"]["container"])
    target.write_text(yaml.safe_dump(spec))
    return target


def promote_only(target: Path, outputs: Path, **changes: Any) -> Path:
    """A package that promotes what another run left in ``outputs``."""
    stage = COMPONENTS["promote"]
    told = defaults("digits")
    own = OWN["promote"].values()
    parameters = {"params": told["promote"], "run_id": "", **{name: told[name] for name in own}, **changes}
    inputs = {
        "dataset": "ingest/dataset",
        "fine_tuned": "finetune/tuned",
        "fine_pruned": "finetune-2/tuned",
        "ingest_report": "ingest/report",
        "attack_report": "attack/report",
        "profile_report": "profile/report",
        "prune_report": "prune/report",
        "control_profile_report": "profile-2/report",
        "control_prune_report": "prune-2/report",
        "fine_tuned_report": "finetune/report",
        "fine_pruned_report": "finetune-2/report",
        "control_fine_pruned_report": "finetune-3/report",
        "evaluation": "evaluate/report",
    }
    types = {"dataset": dsl.Dataset, "fine_tuned": dsl.Model, "fine_pruned": dsl.Model}

    @dsl.pipeline(name="promote-only")
    def pipeline() -> None:
        found = {
            name: dsl.importer(artifact_uri=str(outputs / path), artifact_class=types.get(name, dsl.Artifact))
            for name, path in inputs.items()
        }
        stage(**parameters, **{name: task.output for name, task in found.items()})

    compiler.Compiler().compile(pipeline, str(target))
    return target
