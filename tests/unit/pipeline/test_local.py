"""A local run without an engine: what its stages get of this machine, and what it tells of them."""

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from kfp.local import docker_task_handler

from fineprune.errors import ConfigError
from fineprune.stages import STAGES
from pipeline import __main__, settings
from pipeline.containers import TaskFailedError
from pipeline.local import passed_on, shared_folder, stage_environment, tell_verdict
from pipeline.package import PACKAGE, Package
from pipeline.parameters import defaults

from .submitting import SWEEP, refused
from .terminal import Terminal


def test_limits_are_those_of_the_package() -> None:
    limits = Package(PACKAGE).tasks.memory_limits
    assert limits.keys() == Package(PACKAGE).tasks.stages.keys()
    assert limits["ingest"] == 8 << 30


def test_stage_gets_the_variables_of_the_service_that_it_speaks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    s3 = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"}
    mlflow = {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"}
    given = dict.fromkeys(s3 | mlflow | {"OMP_NUM_THREADS"}, "1")
    got = {stage: stage_environment(stage, given).keys() for stage in STAGES}
    allowed = {"ingest": s3, "promote": mlflow}
    assert got == {stage: {"OMP_NUM_THREADS"} | allowed.get(stage, set()) for stage in STAGES}


def test_what_a_cluster_s_node_offers_is_not_said_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    of_the_node = {"OMP_NUM_THREADS": "8", "FINEPRUNE_DEVICE": "cuda"}
    for name in of_the_node:
        monkeypatch.delenv(name, raising=False)
    assert stage_environment("attack", of_the_node | {"OTHER": "x"}) == {"OTHER": "x"}


def test_the_device_that_the_caller_names_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEPRUNE_DEVICE", "cpu")
    given = passed_on()
    assert stage_environment("attack", given)["FINEPRUNE_DEVICE"] == "cpu"


def test_files_of_this_machine_are_not_named_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    of_files = {"AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
    for name in of_files:
        monkeypatch.setenv(name, "/here")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu")
    monkeypatch.setenv("SOMETHING_PRIVATE", "x")
    given = passed_on()
    assert given["AWS_DEFAULT_REGION"] == "eu"
    assert not (of_files | {"SOMETHING_PRIVATE"}) & given.keys()


def test_root_writes_for_the_user_of_the_images_and_leaves_a_folder_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        with shared_folder(tmp_path, settings.load(), rootless=False) as user:
            (tmp_path / "made").mkdir()
        (tmp_path / "after").mkdir()
    finally:
        os.umask(before)
    assert user == f"{settings.load().security.user}:0"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path, *tmp_path.iterdir())}
    assert modes == {tmp_path.name: 0o755, "made": 0o770, "after": 0o755}


@pytest.mark.parametrize("rootless", [False, True])
def test_anybody_else_writes_for_himself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rootless: bool
) -> None:
    """Whom an engine without root calls root."""
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    with shared_folder(tmp_path / "new", settings.load(), rootless=rootless) as user:
        assert user == ("0:0" if rootless else f"1234:{os.getegid()}")
        assert (tmp_path / "new").is_dir()


@pytest.mark.usefixtures("at_home", "check_current")
@pytest.mark.parametrize("address", [None, "sqlite:///mlflow.db", "http://127.0.0.1:1"])
def test_registry_that_no_container_can_reach_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str | None
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("pipeline.local.Containers", pytest.fail)
    if address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert __main__.main(["local"]) == 2
    said = refused(capsys)
    assert (address or "MLFLOW_TRACKING_URI is not set") in said
    assert said.endswith("python docker/stack.py start, which prints how to set MLFLOW_TRACKING_URI")


@pytest.fixture
def graph(at_home: None, check_current: object, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands in for the graph that kfp loads; with what kfp and its runner were given."""
    graph = mock.Mock()
    monkeypatch.setattr("pipeline.local.components.load_component_from_file", graph.load)
    monkeypatch.setattr("pipeline.local.local.init", graph.init)
    monkeypatch.setattr("pipeline.local.runner", graph.runner)
    monkeypatch.setattr("pipeline.local.rootless", lambda: False)
    graph.load.return_value = graph.run
    return graph


def report(folder: Path, **files: str) -> dict[str, Path]:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return {"report": folder}


def test_run_is_what_the_command_says_and_tells_what_is_done(
    graph: Any, judged: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu")

    def run(**parameters: Any) -> None:
        print("Executing task")
        containers = docker_task_handler.DockerTaskHandler.keywords["containers"]
        assert containers.local_images
        assert containers.limits == Package(PACKAGE).tasks.memory_limits
        assert containers.environment is stage_environment
        containers.begun("prune-2")
        containers.done("prune-2", 61.0)
        containers.outputs |= {
            "evaluate": report(tmp_path / "evaluation", table_txt="the table\n"),
            "promote": report(
                tmp_path / "p", summary_txt="the summary\n", decision_json='{"verdict": "held"}'
            ),
        }

    graph.run.side_effect = run
    given = ("--local-images", "--case", "fsdd", "source=s3://bucket/speech", "--set", "attack.seed=3")
    assert __main__.main(["local", "--folder", "here", *given]) == 3
    sent = graph.run.call_args.kwargs
    assert (sent["source"], sent["attack"]["seed"]) == ("s3://bucket/speech", 3)
    assert sent["registered_name"] == defaults("fsdd")["registered_name"]
    graph.load.assert_called_once_with(str(PACKAGE))
    outputs = tmp_path / "here" / "outputs"
    graph.init.assert_called_once_with(graph.runner.return_value, pipeline_root=str(outputs))
    assert graph.runner.call_args.kwargs["environment"]["AWS_DEFAULT_REGION"] == "eu"
    assert graph.runner.call_args.kwargs["user"]
    done, *rest = capsys.readouterr().out.splitlines()
    assert done.split()[1:] == ["prune", "·", "control", "done", "in", "1:01"]
    assert rest == ["the table", "the summary"]
    assert (tmp_path / "here" / "kfp.log").read_text() == "Executing task\n"


def test_failed_stage_is_told_by_its_run_with_its_last_lines(
    graph: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph.run.side_effect = TaskFailedError("run 2 · prune-2", "exit code 1: boom", ["before", "boom"])
    for _ in "into", "the same folder":
        assert __main__.main(["local", "--folder", str(tmp_path), "--package", str(SWEEP)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.splitlines() == [
            "    before",
            "    boom",
            "run 2 · prune · control failed: exit code 1: boom",
        ]
    graph.load.assert_called_with(str(SWEEP))


def test_live_line_says_what_runs_and_is_taken_away_where_a_stage_fails(
    graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**_: Any) -> None:
        containers = docker_task_handler.DockerTaskHandler.keywords["containers"]
        containers.begun("run 1 · ingest")
        containers.done("run 1 · ingest", 1.0)
        containers.begun("run 1 · prune-2")
        raise TaskFailedError("run 1 · prune-2", "exit code 1: boom")

    graph.run.side_effect = run
    monkeypatch.setattr("sys.stdout", Terminal())
    assert __main__.main(["local", "--folder", str(tmp_path), "--package", str(SWEEP)]) == 1
    *_, shown, left = sys.stdout.getvalue().split("\r")
    assert "1 stages done; running: run 1 · prune · control" in shown
    assert left == "\x1b[K"


def test_package_that_is_not_current_is_not_run(
    graph: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stale(path: Path, profile: str | None) -> None:
        raise ConfigError(f"{path} {profile}: stale")

    monkeypatch.setattr("pipeline.compile.check_current", stale)
    assert __main__.main(["local"]) == 2
    assert f"{PACKAGE} None: stale" in capsys.readouterr().err
    assert not graph.run.called


def test_sweep_ends_with_its_table_and_a_graph_without_promote_without_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {"tabulate": report(tmp_path / "table", table_md="| the sweep |\n")}
    assert tell_verdict(outputs) == 0
    assert capsys.readouterr().out == "| the sweep |\n"


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
