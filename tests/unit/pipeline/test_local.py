"""What a local run does without an engine: what its containers get, and what it makes of how they ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import settings
from pipeline.containers import Outputs, cause_of_end
from pipeline.local import PACKAGE, memory_limits, passed_on, stage_environment, tell_verdict
from pipeline.package import Package


def executor_input(folder: Path) -> list[str]:
    outputs = {
        "outputFile": str(folder / "prune-2" / "executor_output.json"),
        "artifacts": {
            name: {"artifacts": [{"name": name, "uri": str(folder / "prune-2" / name)}]}
            for name in ("pruned", "metrics")
        },
        "parameters": {"row": {"outputFile": str(folder / "prune-2" / "row")}},
    }
    return ["fineprune", "prune", "--executor-input", json.dumps({"outputs": outputs})]


def written(folder: Path, metadata: dict[str, Any]) -> None:
    told = {"metrics": {"artifacts": [{"metadata": metadata}]}}
    (folder / "prune-2").mkdir()
    (folder / "prune-2" / "executor_output.json").write_text(json.dumps({"artifacts": told}))
    (folder / "prune-2" / "row").write_text("{}")
    (folder / "prune-2" / "pruned").mkdir()


def test_task_is_named_by_its_folder(tmp_path: Path) -> None:
    assert Outputs.of_command(executor_input(tmp_path)).task == "prune-2"


def test_whole_outputs_lack_nothing_and_metrics_need_no_file(tmp_path: Path) -> None:
    written(tmp_path, {"loss": 0.5})
    assert Outputs.of_command(executor_input(tmp_path)).missing() is None


@pytest.mark.parametrize("name", ["pruned", "row"])
def test_output_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    written(tmp_path, {"loss": 0.5})
    (tmp_path / "prune-2" / name).rename(tmp_path / "elsewhere")
    assert Outputs.of_command(executor_input(tmp_path)).missing() == f"it exited with 0, but left no {name}"


def test_metrics_without_numbers_are_missing(tmp_path: Path) -> None:
    written(tmp_path, {})
    assert Outputs.of_command(executor_input(tmp_path)).missing() == "it exited with 0, but left no metrics"


@pytest.mark.parametrize("content", [None, "{", '{"artifacts": []}'])
def test_executor_output_that_cannot_be_read_is_no_success(tmp_path: Path, content: str | None) -> None:
    written(tmp_path, {"loss": 0.5})
    file = tmp_path / "prune-2" / "executor_output.json"
    file.unlink() if content is None else file.write_text(content)
    assert Outputs.of_command(executor_input(tmp_path)).missing()


@pytest.mark.parametrize(
    ("code", "killed", "expected"),
    [
        (0, False, None),
        (2, False, "exit code 2: the last line"),
        (137, True, "killed for memory: it needs more than 2 GiB (exit code 137)"),
        (137, False, "killed by a signal from outside (SIGKILL, exit code 137)"),
    ],
)
def test_cause_of_an_end(code: int, killed: bool, expected: str | None) -> None:
    assert cause_of_end(code, killed, 2 << 30, ["before", "the last line"]) == expected


def test_end_without_a_word_has_a_cause_too() -> None:
    assert cause_of_end(1, False, None, []) == "exit code 1: it printed nothing"


def test_limits_are_those_of_the_package() -> None:
    limits = memory_limits(Package(PACKAGE))
    assert limits.keys() == Package(PACKAGE).stages.keys()
    assert limits["ingest"] == 8 << 30


def test_stage_gets_only_its_own_secrets() -> None:
    given = {
        "AWS_SECRET_ACCESS_KEY": "s3",
        "MLFLOW_TRACKING_PASSWORD": "mlflow",
        "AWS_ENDPOINT_URL": "http://store",
    }
    got = {
        stage: stage_environment(stage, given, settings.load()).keys()
        for stage in ("ingest", "attack", "promote")
    }
    assert got == {
        "ingest": {"AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"},
        "attack": {"AWS_ENDPOINT_URL"},
        "promote": {"AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "AWS_ENDPOINT_URL"},
    }


def test_files_of_this_machine_are_not_named_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/here")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu")
    monkeypatch.setenv("SOMETHING_PRIVATE", "x")
    given = passed_on()
    assert given["AWS_DEFAULT_REGION"] == "eu"
    assert not {"AWS_CA_BUNDLE", "SOMETHING_PRIVATE"} & given.keys()


@pytest.mark.parametrize(("verdict", "code"), [("promoted", 0), ("held", 3), ("lost", 1)])
def test_verdict_is_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verdict: str, code: int
) -> None:
    (tmp_path / "table.txt").write_text("the table\n")
    (tmp_path / "summary.txt").write_text("the summary\n")
    (tmp_path / "decision.json").write_text(json.dumps({"verdict": verdict}))
    outputs = {"evaluate": {"report": tmp_path}, "promote": {"report": tmp_path}}
    assert tell_verdict(outputs) == code
    assert capsys.readouterr().out == "the table\nthe summary\n"
