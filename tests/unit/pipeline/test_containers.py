"""One task in its container, without an engine: what it is given, and what is made of how it ended."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from kfp.local import docker_task_handler

from components import image
from pipeline.containers import (
    LOG,
    Containers,
    EngineError,
    Outputs,
    TaskFailedError,
    cause_of_end,
    engine,
    rootless,
    runner,
)

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
        (0, True, None),  # what it started ran out of memory, and it could do without
        (2, False, "exit code 2: the last line"),
        (137, True, "killed for memory: it needs more than 2 GiB (exit code 137)"),
        (137, False, "killed by a signal from outside (SIGKILL, exit code 137)"),
    ],
)
def test_cause_of_an_end(code: int, killed: bool, expected: str | None) -> None:
    assert cause_of_end(code, killed, 2 << 30, ["before", "the last line"]) == expected


def test_end_without_a_word_has_a_cause_too() -> None:
    assert cause_of_end(1, False, None, []) == "exit code 1: it printed nothing"


@pytest.fixture
def docker() -> Iterator[Any]:
    """An engine whose container prints two lines and a blank one, and ends well."""
    with mock.patch("pipeline.containers.engine") as engine:
        client = engine.return_value
        client.info.return_value = {}
        container = client.containers.create.return_value
        container.logs.return_value = [b"first\nlast \xff", b" line\n\n"]
        container.wait.return_value, container.attrs = {"StatusCode": 0}, {"State": {"OOMKilled": False}}
        yield SimpleNamespace(client=client, container=container)


@pytest.fixture
def ran(docker: Any) -> Any:
    """Runs one task; what is told of it goes to ``docker.told``."""

    def run(folder: Path, limits: Mapping[str, int] | None = None) -> Containers:
        told = mock.Mock()
        handle = Containers(limits or {}, lambda stage, given: {stage: given["A"]}, told.begun, told.done)
        before = docker_task_handler.DockerTaskHandler
        with handle.installed():
            task = docker_task_handler.DockerTaskHandler(
                "image", executor_input(folder), str(folder), runner(user="7:0"), env_vars={"A": "1"}
            )
        assert docker_task_handler.DockerTaskHandler is before
        docker.client.close.reset_mock()
        try:
            task.run()
        finally:
            docker.client.close.assert_called_once_with()
        docker.told = told.mock_calls
        return handle

    return run


def test_container_is_confined_and_gets_what_its_task_needs(tmp_path: Path, docker: Any, ran: Any) -> None:
    written(tmp_path)
    docker.client.info.return_value = {"Runtimes": {"runc": {}, "nvidia": {}}}
    ran(tmp_path, limits={"prune-2": 1 << 30})
    given = docker.client.containers.create.call_args.kwargs
    (gpus,) = given.pop("device_requests")
    assert (gpus.count, gpus.capabilities) == (-1, [["gpu"]])
    assert given == {
        "volumes": {str(tmp_path): {"bind": str(tmp_path), "mode": "rw"}},
        "environment": {"prune": "1"},
        "mem_limit": 1 << 30,
        "memswap_limit": 1 << 30,
        "user": "7:0",
        "read_only": True,
        "tmpfs": {"/tmp": "mode=1777,exec"},
        "network_mode": "host",
        "init": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
    }


def test_task_without_a_limit_or_a_gpu_gets_none(tmp_path: Path, docker: Any, ran: Any) -> None:
    written(tmp_path)
    ran(tmp_path, limits={"attack": 1 << 30})
    given = docker.client.containers.create.call_args.kwargs
    assert not {"mem_limit", "memswap_limit"} & given.keys()
    assert given["device_requests"] == []


def test_scratch_folder_lets_libraries_be_loaded_from_it() -> None:
    """The speech generator does; an engine mounts a tmpfs with noexec unless it is told otherwise."""
    with mock.patch("pipeline.containers.engine"):
        (options,) = runner().container_run_args["tmpfs"].values()
    assert "exec" in options.split(",")


@pytest.mark.parametrize(("loop", "label"), [("", "prune-2"), ("for-loop-1-iteration-1", "run 2 · prune-2")])
def test_task_that_is_done_is_told_and_leaves_its_log_and_outputs(
    tmp_path: Path, docker: Any, ran: Any, loop: str, label: str
) -> None:
    folder = tmp_path / loop
    folder.mkdir(exist_ok=True)
    written(folder)
    docker.container.remove.side_effect = NotFound("gone by itself")
    handle = ran(folder)
    begun, done = docker.told
    assert (begun, done[1][0]) == (mock.call.begun(label), label)
    assert handle.outputs == {"prune-2": {name: folder / "prune-2" / name for name in TYPES}}
    assert (folder / "prune-2" / LOG).read_bytes() == b"first\nlast \xff line\n\n"


@pytest.mark.parametrize(
    ("code", "killed", "cause"),
    [
        (2, False, "exit code 2: last \ufffd line"),
        (137, True, "killed for memory: it needs more than 1 GiB (exit code 137)"),
        (0, False, "it exited with 0, but left no executor output, pruned, metrics, confusion_matrix, row"),
    ],
)
def test_task_that_failed_is_told_with_its_last_lines_and_leaves_no_container(
    tmp_path: Path, docker: Any, ran: Any, code: int, killed: bool, cause: str
) -> None:
    docker.container.wait.return_value = {"StatusCode": code}
    docker.container.attrs = {"State": {"OOMKilled": killed}}
    folder = tmp_path / "for-loop-1-iteration-0"
    with pytest.raises(TaskFailedError) as failed:
        ran(folder, limits={"prune-2": 1 << 30})
    assert (failed.value.task, failed.value.cause) == ("run 1 · prune-2", cause)
    assert failed.value.log == ["first", "last \ufffd line"]
    docker.container.remove.assert_called_once_with(force=True)


def test_of_a_long_log_the_end_is_told(tmp_path: Path, docker: Any, ran: Any) -> None:
    docker.container.logs.return_value = [f"line {number}\n".encode() for number in range(100)]
    docker.container.wait.return_value = {"StatusCode": 1}
    with pytest.raises(TaskFailedError) as failed:
        ran(tmp_path)
    assert failed.value.log == [f"line {number}" for number in range(88, 100)]


@pytest.mark.parametrize("local_images", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_image_is_the_package_s_or_the_one_made_here(
    tmp_path: Path, docker: Any, there: bool, local_images: bool
) -> None:
    """One of a registry is pulled where it is not here, with or without a host in its name."""
    written(tmp_path)
    handle = Containers({}, lambda stage, given: {}, mock.Mock(), mock.Mock(), local_images=local_images)
    images = docker.client.images
    images.get.side_effect = None if there else ImageNotFound("none")
    with handle.installed():
        task = docker_task_handler.DockerTaskHandler(
            "myteam/fineprune:1", executor_input(tmp_path), str(tmp_path), runner(user="0")
        )
        if local_images and not there:
            with pytest.raises(TaskFailedError, match=f"there is no image {image('prune')} here"):
                task.run()
            return
        task.run()
    ran = image("prune") if local_images else "myteam/fineprune:1"
    assert docker.client.containers.create.call_args.args[0] == ran
    assert images.pull.call_args_list == ([] if there else [mock.call("myteam/fineprune:1")])


def test_container_that_the_engine_cannot_start_is_a_failure_of_its_task(
    tmp_path: Path, docker: Any, ran: Any
) -> None:
    docker.container.start.side_effect = APIError("500", explanation="no such program")
    with pytest.raises(TaskFailedError, match=r"^prune-2: the engine: no such program$"):
        ran(tmp_path)
    docker.container.remove.assert_called_once_with(force=True)


def test_image_that_cannot_be_pulled_is_told_with_the_reason(tmp_path: Path, docker: Any, ran: Any) -> None:
    docker.client.images.get.side_effect = ImageNotFound("none")
    docker.client.images.pull.side_effect = APIError("500", explanation="no such host")
    with pytest.raises(TaskFailedError, match=r"^prune-2: cannot pull the image image: no such host$"):
        ran(tmp_path)


def test_engine_that_the_environment_names_comes_before_a_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "named")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    (tmp_path / "config.json").write_text('{"currentContext": "desktop"}')
    with pytest.raises(EngineError, match="there is no context named"):
        engine()
    monkeypatch.setenv("DOCKER_HOST", "unix:///named.sock")
    with mock.patch("pipeline.containers.DockerClient") as client:
        assert engine() is client.from_env.return_value
        client.from_env.return_value.ping.side_effect = DockerException("Connection aborted. (2, 'none')")
        with pytest.raises(
            EngineError, match=r"^no Docker Engine answers \(Connection aborted\.\): start it"
        ):
            engine()


def test_engine_of_a_context_is_asked_with_its_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    far = SimpleNamespace(Host="tcp://far.example:2376", TLSConfig=object())
    with (
        mock.patch.object(ContextAPI, "get_context", return_value=far),
        mock.patch("pipeline.containers.DockerClient") as client,
    ):
        engine()
    client.assert_called_once_with(base_url=far.Host, tls=far.TLSConfig)


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


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["name=seccomp,profile=builtin", "name=rootless"], True), (["name=seccomp"], False), (None, False)],
)
def test_engine_without_root_is_known(options: list[str] | None, expected: bool) -> None:
    with mock.patch("pipeline.containers.engine") as engine:
        engine().info.return_value = {"SecurityOptions": options}
        assert rootless() == expected
