"""All that was measured, beside the paper's figures: what ``paper.json`` holds, and all tables show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from fineprune import __version__
from fineprune.reporting.drawing import backdoor_only
from tables.checks import checks
from tables.mean import mean_of
from tables.measured import Reports
from tables.profiles import Profile
from tables.reference import Paper

# The model of evaluate's report behind each defence, for the attacked network and for the control.
ATTACKED = {
    "none": "undefended",
    "pruning": "pruned",
    "fine_tuning": "fine_tuned",
    "fine_pruning": "fine_pruned",
}
CONTROL = {
    "none": "control",
    "pruning": "control_pruned",
    "fine_tuning": "control_fine_tuned",
    "fine_pruning": "control_fine_pruned",
}
NETWORKS = {"attacked": ATTACKED, "control": CONTROL}
BOUNDS = {
    "clean_accuracy": (0.0, 1.0),
    "backdoor_success": (0.0, 1.0),
    "robust_accuracy": (0.0, 1.0),
    "average_precision": (0.0, 1.0),
    "utility": (-1.0, 1.0),
    "clean_loss": (-1.0, 1.0),
}
INTERVAL = (
    "95 % for the mean. Student's interval over the seeds shows what training again would change; the mean "
    "of the seeds' own intervals shows what other test inputs would change; the two are added in quadrature. "
    "Where it says 1 seed, it shows other test inputs alone and is too narrow."
)


def assemble(profile: Profile, reports: Reports, paper: Paper) -> dict[str, Any]:
    """Everything, as plain values.

    Args:
        profile: what was to be run.
        reports: what evaluate wrote for the cells that are there.
        paper: the paper's figures.
    """
    cells = [
        cell
        for case in profile.cases
        for attack in profile.attacks
        for cell in _cells(case, attack, _seeds(reports, case, attack), paper)
    ]
    pruning = list(_each(profile, reports, _pruning))
    return {
        "profile": profile.name,
        "version": __version__,
        "cases": list(profile.cases),
        "attacks": list(profile.attacks),
        "seeds": list(profile.seeds),
        "data": {cell.case: report["dataset"]["origin"] for cell, report in reports.items()},
        "interval": INTERVAL,
        "missing": [str(cell) for cell in profile.cells if cell not in reports],
        "cells": cells,
        "checks": checks(cells, pruning),
        "pruning": pruning,
        "activations": list(_each(profile, reports, _activations)),
        "contradictions": [
            {"number": number, "title": told["title"], "text": told["text"]}
            for number, told in enumerate(paper.contradictions, 1)
        ],
    }


def _seeds(reports: Reports, case: str, attack: str) -> dict[int, Mapping[str, Any]]:
    """The reports of a case and an attack by seed."""
    return {
        cell.seed: report
        for cell, report in sorted(reports.items())
        if (cell.case, cell.attack) == (case, attack)
    }


def _cells(
    case: str, attack: str, reports: Mapping[int, Mapping[str, Any]], paper: Paper
) -> Iterator[dict[str, Any]]:
    """The cells of a case and an attack: each defence on the attacked network and on the control."""
    if not reports:
        return
    study, first = paper.study(case), next(iter(reports.values()))
    for network, defences in NETWORKS.items():
        for defence, model in defences.items():
            yield {
                "case": case,
                "study": study,
                "attack": attack,
                "targeted": first["attack_details"]["labels"]["kind"] != "random_wrong",
                "network": network,
                "defence": defence,
                "model": model,
                "seeds": list(reports),
                "limits": {
                    **first["attack_details"]["took"],
                    "min_control_accuracy": first["config"]["limits"]["min_control_accuracy"],
                },
                "measured": {metric: _measured(reports, model, metric) for metric in BOUNDS},
                "paper": {
                    metric: paper.figure(study, attack, defence, metric) if network == "attacked" else None
                    for metric in ("clean_accuracy", "backdoor_success", "utility")
                },
            }


def _measured(reports: Mapping[int, Mapping[str, Any]], model: str, metric: str) -> dict[str, Any] | None:
    """The mean over seeds with its interval and every seed's own; None where a seed has no value."""
    found = {str(seed): report["models"].get(model, {}).get(metric) for seed, report in reports.items()}
    known = [estimate for estimate in found.values() if estimate is not None]
    if len(known) < len(found):
        return None
    return asdict(mean_of(known, BOUNDS[metric])) | {"seeds": found}


def _each(profile: Profile, reports: Reports, make: Any) -> Iterator[dict[str, Any]]:
    """What ``make`` says of the seeds of each case and attack that has any."""
    for case in profile.cases:
        for attack in profile.attacks:
            if found := _seeds(reports, case, attack):
                yield {"case": case, "attack": attack, "seeds": {str(s): make(r) for s, r in found.items()}}


def _pruning(report: Mapping[str, Any]) -> dict[str, Any]:
    """Where pruning stopped, and rates (C + 1,) by the number of channels pruned."""
    told = report["pruning"]
    return {
        "stop": told["stop"],
        **{name.replace(" ", "_"): values for name, values in told["curve"].items()},
    }


def _activations(report: Mapping[str, Any]) -> dict[str, Any]:
    """Mean activations (C,) in pruning order, and which channels hardly fire without the trigger."""
    order = report["pruning"]["order"]
    clean, triggered = (
        np.asarray(report["activations"][name], float)[order] for name in ("clean", "triggered")
    )
    return {
        "stop": report["pruning"]["stop"],
        "clean": clean.tolist(),
        "triggered": triggered.tolist(),
        "backdoor_only": np.flatnonzero(backdoor_only(clean, triggered)).tolist(),
    }
