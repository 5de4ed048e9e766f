"""What a local run does without an engine: what its containers get, and what it makes of how they ended."""

import json
import os
from pathlib import Path
from unittest import mock

import pytest
from docker.context import ContextAPI
from docker.errors import ImageNotFound
from kfp.local import docker_task_handler

from components import image
from fineprune.stages import STAGES
from pipeline import __main__, settings
from pipeline.containers import (
    Containers,
    EngineError,
    Outputs,
    TaskFailedError,
    cause_of_end,
    engine,
    rootless,
    runner,
)
from pipeline.local import passed_on, shared_folder, stage_environment, tell_verdict
from pipeline.package import PACKAGE, Package

from .submitting import refused

TYPES = {"pruned": "Model", "metrics": "Metrics", "confusion_matrix": "ClassificationMetrics"}


def executor_input(folder: Path) -> list[str]:
    task = folder / "prune-2"
    outputs = {
        "outputFile": str(task / "executor_output.json"),
        "artifacts": {
            name: {"artifacts": [{"type": {"schemaTitle": f"system.{kind}"}, "uri": str(task / name)}]}
            for name, kind in TYPES.items()
        },
        "parameters": {"row": {"outputFile": str(folder / "prune-2" / "row")}},
    }
    return ["fineprune", "prune", "--executor-input", json.dumps({"outputs": outputs})]


def written(folder: Path, *told_of: str) -> None:
    told = {name: {"artifacts": [{"metadata": {}}]} for name in told_of or TYPES}
    (folder / "prune-2").mkdir()
    (folder / "prune-2" / "executor_output.json").write_text(json.dumps({"artifacts": told}))
    (folder / "prune-2" / "row").write_text("{}")
    (folder / "prune-2" / "pruned").mkdir()


def test_task_is_named_by_its_folder(tmp_path: Path) -> None:
    assert Outputs.of_command(executor_input(tmp_path)).task == "prune-2"


def test_metrics_that_the_task_told_of_need_no_file_and_no_numbers(tmp_path: Path) -> None:
    written(tmp_path)
    assert Outputs.of_command(executor_input(tmp_path)).missing() is None


@pytest.mark.parametrize("name", ["pruned", "row"])
def test_output_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    written(tmp_path)
    (tmp_path / "prune-2" / name).rename(tmp_path / "elsewhere")
    assert Outputs.of_command(executor_input(tmp_path)).missing() == f"it exited with 0, but left no {name}"


def test_metrics_that_the_task_did_not_tell_of_are_missing(tmp_path: Path) -> None:
    written(tmp_path, "pruned", "confusion_matrix")
    assert Outputs.of_command(executor_input(tmp_path)).missing() == "it exited with 0, but left no metrics"


@pytest.mark.parametrize("content", [None, "{", '{"artifacts": []}'])
def test_executor_output_that_cannot_be_read_is_no_success(tmp_path: Path, content: str | None) -> None:
    written(tmp_path)
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


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["name=seccomp,profile=builtin", "name=rootless"], True), (["name=seccomp"], False), (None, False)],
)
def test_engine_without_root_is_known(options: list[str] | None, expected: bool) -> None:
    with mock.patch("pipeline.containers.engine") as engine:
        engine().info.return_value = {"SecurityOptions": options}
        assert rootless() == expected


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


@pytest.mark.parametrize("local_images", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_image_is_the_package_s_or_the_one_made_here(tmp_path: Path, there: bool, local_images: bool) -> None:
    """One of a registry is pulled where it is not here, with or without a host in its name."""
    written(tmp_path)
    handle = Containers({}, lambda stage, given: {}, mock.Mock(), mock.Mock(), local_images=local_images)
    with mock.patch("pipeline.containers.engine") as engine, handle.installed():
        images, containers = engine().images, engine().containers
        images.get.side_effect = None if there else ImageNotFound("none")
        container = containers.create.return_value
        container.logs.return_value, container.wait.return_value = [], {"StatusCode": 0}
        container.attrs = {"State": {"OOMKilled": False}}
        task = docker_task_handler.DockerTaskHandler(
            "myteam/fineprune:1", executor_input(tmp_path), str(tmp_path), runner(user="0")
        )
        if local_images and not there:
            with pytest.raises(TaskFailedError, match=f"there is no image {image('prune')} here"):
                task.run()
            return
        task.run()
    ran = image("prune") if local_images else "myteam/fineprune:1"
    assert containers.create.call_args.args[0] == ran
    assert images.pull.call_args_list == ([] if there else [mock.call("myteam/fineprune:1")])


def test_engine_is_that_of_the_context_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    (tmp_path / "config.json").write_text('{"currentContext": "desktop"}')
    with pytest.raises(EngineError, match=r"no Docker Engine answers \(there is no context desktop\)"):
        engine()
    ContextAPI.create_context("desktop", host="unix:///desktop.sock")
    with mock.patch("pipeline.containers.DockerClient") as client:
        engine()
    assert client.call_args.kwargs["base_url"].endswith("unix:///desktop.sock")


def test_scratch_folder_lets_libraries_be_loaded_from_it() -> None:
    """The speech generator does; an engine mounts a tmpfs with noexec unless it is told otherwise."""
    with mock.patch("pipeline.containers.engine"):
        (options,) = runner().container_run_args["tmpfs"].values()
    assert "exec" in options.split(",")


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
