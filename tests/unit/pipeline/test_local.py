"""What a local run does without an engine: what its containers get, and what it makes of how they ended."""

import json
import os
import sys
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
from fineprune.errors import ConfigError
from fineprune.stages import STAGES
from pipeline import __main__, settings
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
from pipeline.local import passed_on, shared_folder, stage_environment, tell_verdict
from pipeline.package import PACKAGE, Package
from pipeline.parameters import defaults

from .submitting import SWEEP, refused
from .terminal import Terminal

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


def test_scratch_folder_lets_libraries_be_loaded_from_it() -> None:
    """The speech generator does; an engine mounts a tmpfs with noexec unless it is told otherwise."""
    with mock.patch("pipeline.containers.engine"):
        (options,) = runner().container_run_args["tmpfs"].values()
    assert "exec" in options.split(",")


def test_files_of_this_machine_are_not_named_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    of_files = {"AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
    for name in of_files:
        monkeypatch.setenv(name, "/here")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu")
    monkeypatch.setenv("SOMETHING_PRIVATE", "x")
    given = passed_on()
    assert given["AWS_DEFAULT_REGION"] == "eu"
    assert not (of_files | {"SOMETHING_PRIVATE"}) & given.keys()


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
