"""A network to register, versions without one, and a promoter."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fineprune.lineage import StageRecord
from fineprune.tracking.promotion import CANDIDATE, CHAMPION
from fineprune.tracking.tracker import Tracker

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


def open_run(tracker: Tracker, key: str = "evaluation") -> Any:
    return tracker.pipeline_run(name="digits", key=key, tags={"case": "digits"}, params={"train.epochs": "3"})


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
