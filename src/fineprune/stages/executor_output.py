"""What Kubeflow is told of a finished stage: its artifacts, with their numbers as metadata.

Kubeflow hands a container the executor input (``{{$}}``), which names every output's place, and reads
the executor output back. The Kubeflow UI shows metadata of the types ``system.Metrics`` and
``system.ClassificationMetrics``; kfp's local runner finds a container's artifacts here alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineprune.errors import ConfigError, excerpt
from fineprune.files import write_json
from fineprune.lineage import read_report
from fineprune.outputs import whole_outputs


class ExecutorOutput:
    """The executor output of one container; written last, its presence marks success.

    Args:
        executor_input: Kubeflow's JSON (``ml_pipelines.ExecutorInput`` of kfp's pipeline_spec.proto).

    Raises:
        ConfigError: it is not such JSON.
    """

    def __init__(self, executor_input: str) -> None:
        try:
            outputs = json.loads(executor_input)["outputs"]
            self._path = Path(outputs["outputFile"])
            self._artifacts = {
                name: dict(entry["artifacts"][0]) for name, entry in outputs.get("artifacts", {}).items()
            }
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise ConfigError(
                f"--executor-input: expected Kubeflow's executor input, found {excerpt(executor_input)}"
            ) from error

    def write(self, folder: Path) -> None:
        """Tell what the stage's report in ``folder`` says."""
        report = read_report(folder)
        told = {
            name: {"artifacts": [artifact | {"metadata": _metadata(name, report)}]}
            for name, artifact in self._artifacts.items()
        }
        with whole_outputs({"told": self._path}) as scratch:
            write_json(scratch["told"], {"artifacts": told})


def _metadata(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to the output of that name."""
    if name == "metrics":
        return dict(report["numbers"])
    if name == "confusion_matrix":
        shown = report["confusion"]
        return (
            {"confusionMatrix": _confusion_matrix(**shown)} if shown else {"note": "too many classes to show"}
        )
    digest = report["outputs"].get(name)
    return {"sha256": digest} if digest else {}


def _confusion_matrix(classes: list[str], rows: list[list[int]]) -> dict[str, Any]:
    """A confusion matrix as ``kfp.dsl.ClassificationMetrics.log_confusion_matrix`` lays it out.

    A detector's has a column more than rows, for what it did not find. Kubeflow draws squares alone.
    """
    names = [*classes, "nothing"][: len(rows[0])]
    square = [*rows, *[[0] * len(names)] * (len(names) - len(rows))]
    return {
        "annotationSpecs": [{"displayName": name} for name in names],
        "rows": [{"row": row} for row in square],
    }
