"""What is registered is what was judged, and no pickle."""

import os
from pathlib import Path
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


def test_a_detector_answers_alike_only_if_all_its_outputs_do() -> None:
    expected = {"boxes": torch.ones(2, 4), "scores": torch.ones(2)}
    assert _alike(dict(expected), expected)
    for name in expected:
        assert not _alike(expected | {name: expected[name] + 1}, expected)
    assert not _alike({"boxes": expected["boxes"]}, expected)


def test_a_pickle_is_not_opened(tracker: Tracker, tmp_path: Path) -> None:
    mlflow.pytorch.save_model(
        Net(), tmp_path / "pickled", serialization_format="pickle", pip_requirements=["torch"]
    )
    with pytest.raises(mlflow.exceptions.MlflowException, match="pickle"):
        check_export(str(tmp_path / "pickled"), Net(), EXAMPLE)
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" not in os.environ
