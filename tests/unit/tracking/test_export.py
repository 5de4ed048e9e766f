"""What is registered is what was judged, and no pickle."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import torch
from torch import Tensor, nn

from fineprune.errors import TrackingError
from fineprune.tracking.export import _alike, check_export
from fineprune.tracking.tracker import Tracker
from tests.unit.tracking.registry import EXAMPLE, TAGS, Net, open_run


class Drifting(Net):
    """Answers differently each time, so no export can agree with it."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + torch.rand(())


class Rigid(Net):
    """Works for one batch size."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.reshape(2, 12))


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


@pytest.mark.parametrize("where", ["log_network", "check_export"])
def test_a_full_folder_of_temporary_files_is_named_before_torch_writes_there(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "check_export":
        with open_run(tracker) as run_id:
            tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**24))
    with pytest.raises(TrackingError) as error, open_run(tracker) as run_id:
        tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
    assert str(error.value) == (
        f"{tempfile.gettempdir()}: expected 16,777,372 bytes free for the exported model, found 16,777,216: "
        "make room, or set TMPDIR"
    )
    assert len(client.search_registered_models()) == (where == "check_export")


@pytest.mark.parametrize(("file", "named"), [(None, tempfile.gettempdir()), ("a/model.pt2", "a/model.pt2")])
def test_a_disk_that_is_full_meanwhile_is_named(
    tracker: Tracker, client: Any, monkeypatch: pytest.MonkeyPatch, file: str | None, named: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr(mlflow.models.Model, "log", full)
    with pytest.raises(TrackingError) as error, open_run(tracker) as run_id:
        tracker.register("net", Net().eval(), EXAMPLE, run_id=run_id, tags=TAGS)
    assert str(error.value) == f"MLflow: {named}: No space left on device"
    assert not client.search_registered_models()


def test_a_detector_answers_alike_only_if_all_its_outputs_do() -> None:
    expected = {"boxes": torch.ones(2, 4), "scores": torch.ones(2)}
    assert _alike(dict(expected), expected)
    for name in expected:
        assert not _alike(expected | {name: expected[name] + 1}, expected)
    assert not _alike({"boxes": expected["boxes"]}, expected)
    assert not _alike(torch.ones(1, 4), torch.ones(2, 4))


def test_a_pickle_is_not_opened(tracker: Tracker, tmp_path: Path) -> None:
    mlflow.pytorch.save_model(
        Net(), tmp_path / "pickled", serialization_format="pickle", pip_requirements=["torch"]
    )
    with pytest.raises(mlflow.exceptions.MlflowException, match="pickle"):
        check_export(str(tmp_path / "pickled"), Net(), EXAMPLE)
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" not in os.environ
