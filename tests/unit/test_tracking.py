"""MLflow for real: a SQLite store, a server on loopback, and promoters that race."""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import mlflow
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fineprune import tracking
from fineprune.errors import TrackingError
from fineprune.lineage import StageRecord
from fineprune.lock import PromotionLock
from fineprune.tracking import (
    CANDIDATE,
    CHAMPION,
    KUBEFLOW_RUN,
    LockEntries,
    Outcome,
    Tracker,
    connect,
    verdict_of_run,
)

EXAMPLE = np.arange(24, dtype=np.int16).reshape(2, 12)
TAGS = {"digest.model": "m" * 64, "digest.evaluation": "e" * 64, "utility.low": "0.9"}


class Net(nn.Module):
    """Raw audio (B, 12) int16 to logits (B, 3)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(12, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs.float() / 100)


class Drifting(Net):
    """Answers differently each time, so no export can agree with it."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + torch.rand(())


class Rigid(Net):
    """Works for one batch size."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.reshape(2, 12))


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated, empty database: making one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def tracker(tmp_path: Path, migrated: bytes, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(migrated)
    return connect(f"sqlite:///{tmp_path}/mlflow.db", "fineprune")


@pytest.fixture
def client(tracker: Tracker) -> Any:
    return mlflow.MlflowClient(tracker.uri)


def open_run(tracker: Tracker, key: str = "evaluation") -> Any:
    return tracker.pipeline_run(name="digits", key=key, tags={"case": "digits"})


def record(**more: Any) -> StageRecord:
    return StageRecord(**{"name": "prune", "key": "prune:1", "metrics": {"channels": 3.0}} | more)


def candidates(client: Any, *lows: float) -> list[str]:
    """Registered versions with these lower ends of utility, without a model behind them."""
    client.create_registered_model("net")
    return [
        str(
            client.create_model_version(
                "net", "mlflow-artifacts:/none", tags={"utility.low": repr(low)}
            ).version
        )
        for low in lows
    ]


def promote_if_better(tracker: Tracker, version: str, low: float, pause: float = 0.0) -> None:
    with tracker.promotion("net", version) as promotion:
        best = promotion.champion
        time.sleep(pause)
        better = best is None or low > float(best.tags["utility.low"])
        promotion.settle(CHAMPION if better else CANDIDATE, {"verdict": "promoted" if better else "held"}, "")


def aliases(client: Any) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model("net").aliases.items()}


# --- runs ---------------------------------------------------------------------------------------


def test_artifacts_lie_beside_the_database(tracker: Tracker, tmp_path: Path) -> None:
    (tmp_path / "curve.png").write_bytes(b"png")
    with open_run(tracker) as run_id:
        tracker.log_stage(run_id, record(files={"figures/curve.png": tmp_path / "curve.png"}))
    assert [file.name for file in (tmp_path / "mlruns").rglob("*.png")] == ["curve.png"]
    assert tracker.look_at(run_id) == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db"


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


def test_another_evaluation_is_another_run(tracker: Tracker) -> None:
    with open_run(tracker) as first, open_run(tracker, key="other") as second:
        assert first != second


def test_a_parent_that_is_not_there(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "nowhere")
    with pytest.raises(TrackingError, match="nowhere"), open_run(tracker):
        pass


# --- stores that are not there ------------------------------------------------------------------


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        connect(f"http://me:secret@127.0.0.1:{port}", "fineprune")
    assert time.monotonic() - started < 15
    message = str(caught.value)
    assert message.startswith(f"http://127.0.0.1:{port}: no answer from MLflow: ")
    assert message.endswith("Connection refused")
    assert "secret" not in message
    assert "\n" not in message


def test_no_database(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no answer from MLflow"):
        connect(f"sqlite:///{tmp_path}", "fineprune")


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(uri: str) -> None:
    with pytest.raises(TrackingError, match="expected a database file behind sqlite:///"):
        connect(uri, "fineprune")


def test_a_deleted_experiment(tracker: Tracker, client: Any) -> None:
    client.delete_experiment(client.get_experiment_by_name("fineprune").experiment_id)
    with pytest.raises(TrackingError, match="experiment 'fineprune': expected an active one"):
        connect(tracker.uri, "fineprune")


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


# --- registration -------------------------------------------------------------------------------


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


def test_of_two_that_register_the_same_at_once_the_first_ones_version_stays(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_run(tracker) as run_id:
        tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
        found = iter([None, tracker._registered("net", TAGS)])  # the second looked before the first had it
        monkeypatch.setattr(Tracker, "_registered", lambda *_: next(found))
        assert tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS) == "1"
    assert [version.version for version in client.search_model_versions("name = 'net'")] == [1]


@pytest.mark.parametrize(
    ("network", "message"),
    [(Drifting(), "predicts something else"), (Rigid(), "does not run")],
)
def test_an_export_that_differs_is_not_registered(
    tracker: Tracker, client: Any, network: nn.Module, message: str
) -> None:
    with pytest.raises(TrackingError, match=message), open_run(tracker) as run_id:
        tracker.register("net", network.eval(), EXAMPLE, run_id=run_id, tags=TAGS)
    assert not client.search_registered_models()
    assert client.get_run(run_id).info.status == "FAILED"


def test_a_pickle_is_not_opened(tracker: Tracker, tmp_path: Path) -> None:
    mlflow.pytorch.save_model(
        Net(), tmp_path / "pickled", serialization_format="pickle", pip_requirements=["torch"]
    )
    with pytest.raises(mlflow.exceptions.MlflowException, match="pickle"):
        tracking._check_export(str(tmp_path / "pickled"), Net(), EXAMPLE)
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" not in os.environ


# --- the race for the champion ------------------------------------------------------------------


def test_a_new_champion_is_no_candidate_any_more(tracker: Tracker, client: Any) -> None:
    low, high = candidates(client, 0.8, 0.9)
    promote_if_better(tracker, high, 0.9)
    promote_if_better(tracker, low, 0.8)
    assert aliases(client) == {CHAMPION: high, CANDIDATE: low}
    with tracker.promotion("net", low) as promotion:
        assert promotion.champion is not None
        assert (promotion.champion.number, promotion.champion.tags["utility.low"]) == (high, "0.9")
        promotion.settle(CHAMPION, {}, "")
    assert aliases(client) == {CHAMPION: low}
    assert [model.name for model in client.search_registered_models()] == ["net"]


def test_of_racing_threads_the_best_ends_as_champion(tracker: Tracker, client: Any) -> None:
    lows = (0.5, 0.9, 0.7, 0.6, 0.8)
    versions = candidates(client, *lows)
    with ThreadPoolExecutor(len(lows)) as pool:
        list(pool.map(lambda pair: promote_if_better(tracker, *pair, 0.02), zip(versions, lows, strict=True)))
    assert aliases(client)[CHAMPION] == versions[1]


def test_without_the_lock_the_worse_could_win(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromotionLock, "__enter__", lambda self: self)
    monkeypatch.setattr(PromotionLock, "__exit__", lambda *_: None)
    monkeypatch.setattr(PromotionLock, "check", lambda _: None)
    better, worse = candidates(client, 0.95, 0.85)
    with tracker.promotion("net", better) as one, tracker.promotion("net", worse) as other:
        assert one.champion is other.champion is None
        one.settle(CHAMPION, {}, "")
        other.settle(CHAMPION, {}, "")
    assert aliases(client)[CHAMPION] == worse


def test_the_alias_is_not_asked_for_until_another_may_have_the_lock(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (version,) = candidates(client, 0.9)
    seconds = []

    def given(*_: Any) -> None:
        tries, patience = (
            int(os.environ[f"MLFLOW_HTTP_REQUEST_{name}"]) for name in ("MAX_RETRIES", "TIMEOUT")
        )
        seconds.append((tries + 1) * patience)

    with tracker.promotion("net", version) as promotion:
        monkeypatch.setattr(tracker._client, "set_registered_model_alias", given)
        promotion.settle(CHAMPION, {}, "")
        takeover = promotion.lock._stale
    assert seconds
    assert seconds[0] < takeover / 2
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"


def race(uri: str, version: str, low: float, start: Any) -> None:
    # Spelt otherwise, the address gets a connection of its own: SQLite's may not cross a fork.
    tracker = connect(uri.replace("/mlflow.db", "/./mlflow.db"), "fineprune")
    start.wait(30)
    promote_if_better(tracker, version, low, 0.1)


def test_of_racing_processes_the_better_ends_as_champion(tracker: Tracker, client: Any) -> None:
    lows = (0.95, 0.85)
    fork = multiprocessing.get_context("fork")  # to import MLflow anew takes ten seconds each
    start = fork.Barrier(len(lows))
    racers = [
        fork.Process(target=race, args=(tracker.uri, version, low, start))
        for version, low in zip(candidates(client, *lows), lows, strict=True)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert aliases(client)[CHAMPION] == "1"


def test_a_lock_that_was_given_back_while_mlflow_looked_for_it_is_tried_for_again() -> None:
    class Hasty:
        def create_registered_model(self, name: str, tags: dict[str, str]) -> None:
            raise mlflow.exceptions.RestException(
                {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"{name} not found"}
            )

    assert not LockEntries(Hasty()).make("net.promotion-lock", "me")


def test_a_lock_is_a_registered_model_with_its_owner(client: Any) -> None:
    entries = LockEntries(client)
    with PromotionLock(entries, "net") as lock:
        with (
            pytest.raises(TrackingError, match=r"net\.promotion-lock: held by .* pid \d+"),
            PromotionLock(entries, "net", wait=0.1),
        ):
            pass
        assert client.get_registered_model("net.promotion-lock").tags["owner"] == lock._owner
        assert not entries.make("net.promotion-lock", "me")
        holder = entries.holder("net.promotion-lock")
        assert holder is not None
        assert holder.owner == lock._owner
        assert 0 <= holder.age < 30
    assert not client.search_registered_models()
    assert entries.holder("net.promotion-lock") is None
    entries.delete("net.promotion-lock")


def test_a_model_in_the_place_of_a_lock_is_left_alone(client: Any) -> None:
    client.create_registered_model("net.promotion-lock")
    lock = PromotionLock(LockEntries(client), "net", stale=-1.0, wait=0.0)
    with pytest.raises(TrackingError, match=r"net\.promotion-lock: held by unknown"), lock:
        pass
    assert [model.name for model in client.search_registered_models()] == ["net.promotion-lock"]


def test_a_dead_promoters_lock_is_taken_over(client: Any) -> None:
    entries = LockEntries(client)
    assert entries.make("net.promotion-lock", "host pid 1 first")
    assert entries.make("net.promotion-lock.first", "host pid 2 second")  # died while taking over
    with PromotionLock(entries, "net", stale=1.0, wait=30):
        pass
    assert not client.search_registered_models()


def test_a_slow_promoter_does_not_write(tracker: Tracker, client: Any) -> None:
    (version,) = candidates(client, 0.9)
    with tracker.promotion("net", version, stale=0.2) as promotion:
        time.sleep(0.2)
        with pytest.raises(TrackingError, match="nothing was promoted"):
            promotion.settle(CHAMPION, {"verdict": "promoted"}, "is now champion")
    assert not aliases(client)
    untouched = client.get_model_version("net", version)
    assert "verdict" not in untouched.tags
    assert not untouched.description


# --- what came of a Kubeflow run ----------------------------------------------------------------


def test_the_verdict_of_a_kubeflow_run(tracker: Tracker, client: Any) -> None:
    first, second, third = candidates(client, 0.9, 0.8, 0.7)
    for version, run, verdict in ((first, "a", "promoted"), (second, "b", "held")):
        tags = {f"{KUBEFLOW_RUN}.{run}": verdict, f"{KUBEFLOW_RUN}.{run}.reasons": "one\ntwo"}
        tracker._tag("net", version, tags)
    tracker._tag("net", third, {KUBEFLOW_RUN: "c"})  # registered, but not judged yet
    assert verdict_of_run(tracker.uri, "a") == Outcome("promoted", ("one", "two"), "net", first)
    assert verdict_of_run(tracker.uri, "b") == Outcome("held", ("one", "two"), "net", second)
    assert verdict_of_run(tracker.uri, "c") is None
    assert verdict_of_run(tracker.uri, "d") is None


def test_two_kubeflow_runs_of_one_version_have_a_verdict_each(tracker: Tracker, client: Any) -> None:
    (version,) = candidates(client, 0.9)
    for run, verdict in (("a", "held"), ("b-1", "promoted")):
        told = {f"{KUBEFLOW_RUN}.{run}": verdict, f"{KUBEFLOW_RUN}.{run}.reasons": f"{verdict} it is"}
        tracker._tag("net", version, told)
    found = [verdict_of_run(tracker.uri, run) for run in ("a", "b-1")]
    told_of = [(outcome.verdict, outcome.reasons) for outcome in found if outcome]
    assert told_of == [("held", ("held it is",)), ("promoted", ("promoted it is",))]


def test_the_verdict_of_a_registry_that_is_not_there() -> None:
    with pytest.raises(TrackingError, match=r"^http://127\.0\.0\.1:1: no answer from MLflow: .*refused$"):
        verdict_of_run("http://me:secret@127.0.0.1:1", "a")


# --- a server -----------------------------------------------------------------------------------


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


# --- a new store --------------------------------------------------------------------------------


def test_a_store_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"

    def interrupted(client: Any) -> None:
        assert not path.exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_experiments", interrupted)
        with pytest.raises(KeyboardInterrupt):
            connect(f"sqlite:///{path}", "first")
    assert list(tmp_path.iterdir()) == []
    connect(f"sqlite:///{path}", "second")
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*places: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert connect(f"sqlite:///{tmp_path}/mlflow.db", "first").uri.endswith("mlflow.db")
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


def test_two_that_make_the_same_store_get_along(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    script = "import sys; from fineprune.tracking import connect; connect(sys.argv[1], 'experiment')"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, f"sqlite:///{path}"], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0), ("", 0)]
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
