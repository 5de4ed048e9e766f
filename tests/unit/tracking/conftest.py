from pathlib import Path
from typing import Any

import mlflow
import pytest

from fineprune.tracking.store import connect
from fineprune.tracking.tracker import Tracker


@pytest.fixture
def tracker(tmp_path: Path, migrated: bytes, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(migrated)
    return connect(f"sqlite:///{tmp_path}/mlflow.db", "fineprune")


@pytest.fixture
def client(tracker: Tracker) -> Any:
    return mlflow.MlflowClient(tracker.uri)
