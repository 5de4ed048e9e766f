"""What Kubeflow is told: in the words of kfp's own artifact classes."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from fineprune.errors import ConfigError
from fineprune.files import write_json
from fineprune.stages.executor_output import ExecutorOutput

REPORT = {
    "schema": 1,
    "numbers": {"channels": 8, "accuracy": 0.5},
    "outputs": {"pruned": "ab" * 32},
    "confusion": {"classes": ["no", "yes"], "rows": [[3, 1], [0, 4]]},
}


def told(folder: Path, *names: str, report: Any = REPORT) -> dict[str, Any]:
    """The executor output for a container with artifacts of these names."""
    (folder / "report").mkdir()
    write_json(folder / "report" / "report.json", report)
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": f"s3://x/{name}", "metadata": {}}]} for name in names
    }
    outputs = {"artifacts": artifacts, "outputFile": str(folder / "kfp" / "output.json")}
    ExecutorOutput(json.dumps({"inputs": {}, "outputs": outputs})).write(folder / "report")
    found = json.loads((folder / "kfp" / "output.json").read_text())["artifacts"]
    assert [path.name for path in (folder / "kfp").iterdir()] == ["output.json"]
    return {name: entry["artifacts"][0] for name, entry in found.items()}


def test_the_numbers_are_the_metadata_of_metrics(tmp_path: Path) -> None:
    assert told(tmp_path, "metrics")["metrics"] == {
        "name": "metrics",
        "uri": "s3://x/metrics",
        "metadata": REPORT["numbers"],
    }


def test_an_output_of_the_stage_has_its_digest(tmp_path: Path) -> None:
    found = told(tmp_path, "pruned", "page")
    assert found["pruned"]["metadata"] == {"sha256": "ab" * 32}
    assert found["page"]["metadata"] == {}


def test_the_confusion_matrix_is_laid_out_as_kfp_does_it(tmp_path: Path) -> None:
    theirs = dsl.ClassificationMetrics()
    theirs.log_confusion_matrix(["no", "yes"], [[3, 1], [0, 4]])
    assert told(tmp_path, "confusion_matrix")["confusion_matrix"]["metadata"] == theirs.metadata


def test_a_detectors_confusion_matrix_is_made_square(tmp_path: Path) -> None:
    report = {**REPORT, "confusion": {"classes": ["no", "yes"], "rows": [[3, 1, 5], [0, 4, 0]]}}
    theirs = dsl.ClassificationMetrics()
    theirs.log_confusion_matrix(["no", "yes", "nothing"], [[3, 1, 5], [0, 4, 0], [0, 0, 0]])
    found = told(tmp_path, "confusion_matrix", report=report)
    assert found["confusion_matrix"]["metadata"] == theirs.metadata


def test_a_confusion_matrix_that_nobody_could_read_is_left_out(tmp_path: Path) -> None:
    found = told(tmp_path, "confusion_matrix", report={**REPORT, "confusion": None})
    assert found["confusion_matrix"]["metadata"] == {"note": "too many classes to show"}


@pytest.mark.parametrize(
    "given", ["", "{", "[" * 100_000, "[]", "{}", '{"outputs": {}}', '{"outputs": {"outputFile": 1}}']
)
def test_anything_else_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="--executor-input: expected Kubeflow's executor input, found"):
        ExecutorOutput(given)
