"""Stores of MLflow that are there, are made, or do not answer."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from fineprune.errors import ConfigError, TrackingError
from fineprune.tracking.store import _check_artifacts, connect
from fineprune.tracking.tracker import Tracker
from tests.unit.tracking.registry import open_run, record


def test_artifacts_lie_beside_the_database(tracker: Tracker, tmp_path: Path) -> None:
    (tmp_path / "curve.png").write_bytes(b"png")
    with open_run(tracker) as run_id:
        tracker.log_stage(run_id, record(files={"figures/curve.png": tmp_path / "curve.png"}))
    assert [file.name for file in (tmp_path / "mlruns").rglob("*.png")] == ["curve.png"]
    assert tracker.look_at(run_id) == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("name", ["feature%2Fx", "100%41", "what?now"])
def test_a_store_is_made_in_a_folder_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    file = f"{tmp_path.name}.db"  # MLflow remembers a relative address, whatever folder it was asked in
    connect(f"sqlite:///{file}", "fineprune")
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert [path.name for path in Path().iterdir()] == [file]


def test_a_token_that_cannot_be_sent_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "planted\n")
    message = "^MLFLOW_TRACKING_TOKEN: expected one line of ASCII characters, found a line break in it$"
    with pytest.raises(ConfigError, match=message):
        connect("http://127.0.0.1:1", "fineprune")


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


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("login", ["", "me:5ecret@"])
def test_an_address_without_its_scheme(login: str, host: str) -> None:
    message = rf"^MLflow: expected an address such as http://{host}:5000/x, found one without http://$"
    with pytest.raises(TrackingError, match=message):
        connect(f"{login}{host}:5000/x", "fineprune")


@pytest.mark.parametrize("uri", ["mlflow.example.org", "mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_no_registry(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=rf"expected http://HOST:PORT or .*, found the folder {uri}$"):
        connect(uri, "fineprune")
    assert not list(tmp_path.iterdir())


def test_a_registry_that_dvc_throws_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thrown = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    thrown.mkdir(parents=True)
    monkeypatch.chdir(thrown)
    with pytest.raises(
        TrackingError, match=rf"set MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/kept/mlflow\.db$"
    ):
        connect("sqlite:///kept/mlflow.db", "fineprune")
    assert not list(thrown.iterdir())


@pytest.mark.parametrize(
    ("location", "known"),
    [
        ("mlflow-artifacts:/1", True),
        ("s3://bucket/1", True),
        ("file://{here}/mlruns/1", True),  # the server is this machine, or shares its disk
        ("{here}/mlruns", True),
        ("file:///of/another/machine/1", False),
        ("/of/another/machine/1", False),
    ],
)
def test_artifacts_in_a_folder_of_another_machine(location: str, known: bool, tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    place = location.format(here=tmp_path)
    _check_artifacts("sqlite:///there/mlflow.db", "fineprune", place)  # whose folder is made
    if known:
        _check_artifacts("http://localhost:5000", "fineprune", place)
        return
    with pytest.raises(TrackingError, match=f"expected artifacts that the server keeps, found {place}"):
        _check_artifacts("http://localhost:5000", "fineprune", place)


def test_artifacts_where_the_database_was_before_it_was_moved(tmp_path: Path, migrated: bytes) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "mlruns").mkdir(parents=True)
        (tmp_path / name / "mlflow.db").write_bytes(migrated)
    connect(f"sqlite:///{tmp_path}/old/mlflow.db", "fineprune")
    (tmp_path / "old" / "mlflow.db").replace(tmp_path / "new" / "mlflow.db")
    told = f"expected artifacts in {tmp_path}/new/mlruns, found {tmp_path}/old/mlruns: move the database back"
    with pytest.raises(TrackingError, match=told):
        connect(f"sqlite:///{tmp_path}/new/mlflow.db", "fineprune")
    connect(f"sqlite:///{tmp_path}/new/mlflow.db", "another")


def test_why_an_experiment_cannot_be_made_is_told(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    monkeypatch.setattr(mlflow.MlflowClient, "create_experiment", refuse)
    with pytest.raises(TrackingError, match=r"^MLflow: Permission denied$"):
        connect(tracker.uri, "another")


def test_a_deleted_experiment(tracker: Tracker, client: Any) -> None:
    client.delete_experiment(client.get_experiment_by_name("fineprune").experiment_id)
    told = "experiment 'fineprune': expected an active one, found a deleted one or none: restore it in MLflow"
    with pytest.raises(TrackingError, match=told):
        connect(tracker.uri, "fineprune")


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
    script = "import sys; from fineprune.tracking.store import connect; connect(sys.argv[1], 'experiment')"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, f"sqlite:///{path}"], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0), ("", 0)]
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
