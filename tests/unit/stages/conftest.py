from pathlib import Path

import pytest

from tests.unit.stages.delivery import Delivery


@pytest.fixture
def delivery(tmp_path: Path, migrated: bytes, monkeypatch: pytest.MonkeyPatch) -> Delivery:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(migrated)
    return Delivery(tmp_path)
