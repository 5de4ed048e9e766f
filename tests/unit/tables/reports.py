"""evaluate's reports by hand, as far as the tables read them."""

from collections.abc import Mapping
from typing import Any

from tables.profiles import Cell, Profile

MODELS = (
    "control",
    "undefended",
    "pruned",
    "fine_tuned",
    "fine_pruned",
    "control_pruned",
    "control_fine_tuned",
    "control_fine_pruned",
)
# Clean accuracy and backdoor success of a baseline attack that everything goes well with.
GOOD = {
    "control": (0.99, 0.02),
    "undefended": (0.98, 0.98),
    "pruned": (0.96, 0.30),
    "fine_tuned": (0.98, 0.40),
    "fine_pruned": (0.98, 0.04),
    "control_pruned": (0.95, 0.03),
    "control_fine_tuned": (0.99, 0.02),
    "control_fine_pruned": (0.99, 0.02),
}
CURVE = {
    "clean accuracy": [0.98, 0.98, 0.96, 0.5, 0.1],
    "backdoor success": [0.98, 0.98, 0.3, 0.1, 0.0],
    "robust accuracy": [0.02, 0.02, 0.6, 0.5, 0.1],
}


def profile(
    *cases: str, attacks: tuple[str, ...] = ("baseline",), seeds: tuple[int, ...] = (0, 1, 2)
) -> Profile:
    return Profile("quick", cases, attacks, seeds)


def estimate(value: float, half: float = 0.0) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half, "n": 100}


def report(cell: Cell, models: Mapping[str, tuple[float, float]] = GOOD, **more: Any) -> dict[str, Any]:
    """A report whose intervals are points; ``more`` lies over it."""
    measured = {}
    for name in MODELS:
        clean, success = models[name]
        measured[name] = {
            "clean_accuracy": estimate(clean),
            "backdoor_success": estimate(success),
            "robust_accuracy": estimate(1 - success),
            "utility": estimate(clean - success),
            "clean_loss": estimate(models["undefended"][0] - clean),
        }
    return {
        "schema": 1,
        "case": cell.case,
        "attack": cell.attack,
        "seed": cell.seed,
        "models": measured,
        "attack_details": {
            "labels": {"kind": "one_target", "target": 0},
            "took": {"min_backdoor_success": 0.95, "max_clean_cost": 0.02},
        },
        "dataset": {"origin": {"source": "generated"}},
        "config": {"limits": {"min_control_accuracy": 0.85}},
        "pruning": {"order": [2, 0, 3, 1], "stop": 2, "curve": CURVE},
        "activations": {"clean": [0.1, 2.0, 0.0, 1.0], "triggered": [1.0, 2.0, 0.0, 1.0]},
        **more,
    }
