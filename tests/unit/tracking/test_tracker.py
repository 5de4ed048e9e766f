"""MLflow for real: runs and registered models, in a SQLite store and on a server."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2

from fineprune.errors import TrackingError
from fineprune.tracking.answers import is_gone
from fineprune.tracking.promotion import CHAMPION
from fineprune.tracking.store import connect
from fineprune.tracking.tracker import Tracker
from tests.unit.tracking.registry import EXAMPLE, TAGS, Net, aliases, open_run, promote_if_better, record


def test_long_series_params_and_tags_arrive(tracker: Tracker, client: Any) -> None:
    long = record(
        params={f"p{i}": "x" * 7000 for i in range(120)},
        series={"accuracy": [(step, step / 2000) for step in range(2000)]},
        tags={"warnings": "y" * 9000},
    )
    with open_run(tracker) as run_id:
        tracker.log_stage(run_id, long)
    run = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{run_id}'")[0]
    assert len(run.data.params) == 120
    assert len(run.data.params["p0"]) == 6000
    assert len(run.data.tags["warnings"]) == 5000
    assert len(client.get_metric_history(run.info.run_id, "accuracy")) == 2000


def killed_attempt(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run(tracker) as run_id:
        tracker.log_stage(run_id, record())
        with monkeypatch.context() as patched:
            patched.setattr(tracker._client, "set_terminated", lambda *_: None)
            tracker.log_stage(run_id, record(name="finetune", key="finetune:1"))
        raise KeyboardInterrupt


def test_a_killed_attempt_is_continued(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        killed_attempt(tracker, monkeypatch)
    (first,) = (run.info.run_id for run in client.search_runs(["1"]) if run.info.run_name == "digits")
    assert client.get_run(first).info.status == "FAILED"
    with open_run(tracker) as second:
        for name in ("prune", "finetune"):
            tracker.log_stage(second, record(name=name, key=f"{name}:1"))
        for _ in range(2):
            tracker.log(second, metrics={"utility": 0.9}, tags={}, description="")
    assert second == first
    runs = client.search_runs(["1"])
    assert {run.info.run_name: run.info.status for run in runs} == dict.fromkeys(
        ("digits", "prune", "finetune"), "FINISHED"
    )
    assert len(runs) == 3
    assert all(len(client.get_metric_history(run.info.run_id, "channels")) <= 1 for run in runs)
    assert len(client.get_metric_history(first, "utility")) == 1


def test_a_metric_that_has_changed_shows_its_last_value(tracker: Tracker, client: Any) -> None:
    for utility in (0.9, 0.6, 0.6):
        with open_run(tracker) as run_id:
            tracker.log(run_id, metrics={"utility": utility}, tags={"verdict": "held"}, description="")
    assert client.get_run(run_id).data.metrics == {"utility": 0.6}
    assert len(client.get_metric_history(run_id, "utility")) == 2


def test_a_run_that_has_ended_keeps_its_duration(tracker: Tracker, client: Any) -> None:
    with open_run(tracker) as run_id:
        pass
    ended = client.get_run(run_id).info.end_time
    with open_run(tracker):
        time.sleep(0.01)
    assert client.get_run(run_id).info.end_time == ended


def test_another_evaluation_is_another_run(tracker: Tracker) -> None:
    with open_run(tracker) as first, open_run(tracker, key="other") as second:
        assert first != second


def test_a_parent_that_is_not_there(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "nowhere")
    with pytest.raises(TrackingError, match="nowhere"), open_run(tracker):
        pass


def test_the_state_of_somebody_elses_run_stays_its_owners(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = client.create_run("1").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", outer)
    with open_run(tracker):
        pass
    assert client.get_run(outer).info.status == "RUNNING"
    with pytest.raises(ZeroDivisionError), open_run(tracker):
        raise ZeroDivisionError
    assert client.get_run(outer).info.status == "RUNNING"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("https://me:planted@mlflow.example/", "https://mlflow.example/#/experiments/7/runs/r1"),
        ("sqlite:///a b.db", "mlflow ui --backend-store-uri 'sqlite:///a b.db'"),
    ],
)
def test_where_to_look_has_no_credentials(uri: str, told: str) -> None:
    assert Tracker(None, uri, "7").look_at("r1") == told


def test_the_first_of_several_versions_is_so_by_its_number() -> None:
    found = [SimpleNamespace(version=number) for number in ("10", "9", "11")]
    client = SimpleNamespace(search_model_versions=lambda _: found)
    assert Tracker(client, "", "1")._registered("net", TAGS) == "9"


def test_a_store_of_artifacts_that_refuses(
    tracker: Tracker, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_experiment("stored", artifact_location="s3://bucket/there")
    nowhere = {"MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    for name, value in (nowhere | keys).items():
        monkeypatch.setenv(name, value)
    page = tmp_path / "page.html"
    page.write_text("<p>")
    stored = connect(tracker.uri, "stored")
    with (
        open_run(stored) as run_id,
        pytest.raises(TrackingError, match=r"^MLflow: Could not connect to the endpoint URL: .http://127"),
    ):
        stored.log_stage(run_id, record(files={page.name: page}))


def test_the_same_evidence_is_one_version(tracker: Tracker, client: Any) -> None:
    with open_run(tracker) as run_id:
        first = tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
        again = tracker.register(
            "net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS | {"case": "x" * 9000}
        )
        other = tracker.register(
            "net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS | {"digest.evaluation": "f" * 64}
        )
    assert (first, again, other) == ("1", "1", "2")
    tags = client.get_model_version("net", "1").tags
    assert TAGS.items() <= tags.items()
    assert len(tags["case"]) == 5000


@pytest.mark.parametrize(
    ("code", "state", "left"),
    [(databricks_pb2.PERMISSION_DENIED, "FAILED", 0), (databricks_pb2.TEMPORARILY_UNAVAILABLE, "RUNNING", 1)],
)
def test_a_refusal_ends_the_run_and_leaves_no_model(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch, code: int, state: str, left: int
) -> None:
    """Of an MLflow that does not answer at all nothing more is asked."""

    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("no", error_code=code)

    monkeypatch.setattr("fineprune.tracking.tracker.check_export", refuse)
    with pytest.raises(TrackingError, match=r"^MLflow: no$"), open_run(tracker) as run_id:
        tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
    assert client.get_run(run_id).info.status == state
    assert len(client.search_logged_models(["1"])) == left


def test_the_model_of_a_version_stays_whatever_fails_behind_it(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(uri: str, name: str, tags: dict[str, str]) -> None:
        registered(uri, name, tags=tags)
        raise MlflowException("lost answer", error_code=databricks_pb2.PERMISSION_DENIED)

    registered = mlflow.register_model
    monkeypatch.setattr(mlflow, "register_model", register)
    with pytest.raises(TrackingError, match="lost answer"), open_run(tracker) as run_id:
        tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
    assert len(client.search_logged_models(["1"])) == 1
    assert client.get_model_version("net", "1").source.startswith("models:/")


def test_a_version_whose_files_are_gone_is_named(tracker: Tracker, tmp_path: Path) -> None:
    with open_run(tracker) as run_id:
        tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
        shutil.rmtree(tmp_path / "mlruns")
        with pytest.raises(TrackingError, match=r"model net version 1: its files cannot be read: .*delete"):
            tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)


@pytest.mark.parametrize("content", [b"", b"flavors: {a: [", b"<html>log in</html>"])
def test_a_version_whose_description_is_damaged_is_one_line(
    tracker: Tracker, tmp_path: Path, content: bytes
) -> None:
    with open_run(tracker) as run_id:
        tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
        (file,) = (tmp_path / "mlruns").rglob("MLmodel")
        file.write_bytes(content)
        with pytest.raises(TrackingError, match=r"the exported model does not run|files cannot be read"):
            tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)


@pytest.mark.parametrize(("status", "gone"), [(413, False), (501, True), (503, True)])
def test_a_refusal_without_a_code_of_mlflow_s_is_an_answer(status: int, gone: bool) -> None:
    said = f"API request to endpoint /api/2.0/mlflow/runs/log-batch failed with error code {status} != 200."
    assert is_gone(MlflowException(said)) == gone


def test_of_two_that_register_the_same_at_once_the_first_ones_version_stays(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_run(tracker) as run_id:
        tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
        found = iter([None, tracker._registered("net", TAGS)])  # the second looked before the first had it
        monkeypatch.setattr(Tracker, "_registered", lambda *_: next(found))
        assert tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS) == "1"
    assert [version.version for version in client.search_model_versions("name = 'net'")] == [1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated: bytes) -> Iterator[str]:
    path = tmp_path_factory.mktemp("server")
    (path / "mlflow.db").write_bytes(migrated)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--workers",
        "1",
    ]
    store = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "artifacts"]
    with (path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *store],
            cwd=path,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError("the MLflow server did not start")


def test_all_of_it_on_a_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    (tmp_path / "curve.png").write_bytes(b"png")
    tracker, client = connect(server, "fineprune"), mlflow.MlflowClient(server)
    with open_run(tracker) as run_id:
        tracker.log_stage(run_id, record(files={"figures/curve.png": tmp_path / "curve.png"}))
        versions = [
            tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS) for _ in range(2)
        ]
        promote_if_better(tracker, versions[0], 0.9)
    assert versions == ["1", "1"]
    assert aliases(client)[CHAMPION] == "1"
    assert [model.name for model in client.search_registered_models()] == ["net"]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert run_id in tracker.look_at(run_id)
    assert not list(tmp_path.glob("ml*"))


def test_a_run_of_somebody_else_keeps_the_params_that_it_has(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = client.create_run("1").info.run_id
    client.log_param(outer, "train.epochs", "7")  # which MLflow does not change
    monkeypatch.setenv("MLFLOW_RUN_ID", outer)
    with open_run(tracker) as run_id:
        assert client.get_run(run_id).data.params == {"train.epochs": "7"}
