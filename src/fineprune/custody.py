"""Whether the reports behind a model speak of one run, and of the data and the model that are at hand.

Each stage has read what another of them wrote: a report names the SHA-256 of the card of all that its stage
read and wrote, and the evaluation's of all that it measured. A report of another run, or one that is given in
another's place, does not fit in; nor does an evaluation that names other models than it says it has read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineprune.errors import DataError
from fineprune.files import as_mapping
from fineprune.lineage import REPORT


@dataclass(frozen=True)
class Step:
    """What one stage read and wrote, each with the name under which the evaluation read the same."""

    stage: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


_DATA = {"dataset": "dataset"}
# By the flag of the stage's report.
STEPS: Mapping[str, Step] = {
    "ingest_report": Step("ingest", {}, _DATA),
    "attack_report": Step("attack", _DATA, {name: name for name in ("attack", "control", "undefended")}),
    "profile_report": Step("profile", _DATA | {"model": "undefended"}, {"profile": "profile"}),
    "prune_report": Step(
        "prune", _DATA | {"model": "undefended", "profile": "profile"}, {"pruned": "pruned"}
    ),
    "control_profile_report": Step("profile", _DATA | {"model": "control"}, {}),
    "control_prune_report": Step("prune", _DATA | {"model": "control"}, {"pruned": "control_pruned"}),
    "fine_tuned_report": Step("finetune", _DATA | {"model": "undefended"}, {"tuned": "fine_tuned"}),
    "fine_pruned_report": Step("finetune", _DATA | {"model": "pruned"}, {"tuned": "fine_pruned"}),
    "control_fine_pruned_report": Step(
        "finetune", _DATA | {"model": "control_pruned"}, {"tuned": "control_fine_pruned"}
    ),
}


def check_custody(reports: Mapping[str, Mapping[str, Any]], folders: Mapping[str, Path]) -> None:
    """Raise :class:`DataError` at the first report that is not of the evaluation's run or of its own stage.

    Args:
        reports: the ``evaluation``'s, and that of each of :data:`STEPS`.
        folders: where they lie.
    """
    measured = as_mapping(reports["evaluation"].get("inputs"))
    for flag, step in STEPS.items():
        file, report = folders[flag] / REPORT, reports[flag]
        _check_stage(report, step.stage, file)
        for side, names in (("inputs", step.inputs), ("outputs", step.outputs)):
            for name, known_as in names.items():
                expected, found = measured.get(known_as), as_mapping(report.get(side)).get(name)
                if not isinstance(expected, str) or found != expected:
                    wanted = f"expected the {known_as} of the evaluation, {_short(expected)}"
                    told = f"{wanted}, found {_short(found)}: one is of another run, evaluate again"
                    raise DataError(f"{file}: {side}.{name}: {told}")
    _check_control(reports, folders)
    _check_evaluation(reports["evaluation"], folders["evaluation"] / REPORT)


def check_dataset(evaluation: Mapping[str, Any], digest: str, path: Path) -> None:
    """Raise :class:`DataError` unless the evaluation was made on this dataset."""
    found = as_mapping(evaluation.get("dataset")).get("digest")
    if found != digest:
        wanted = f"expected an evaluation on this dataset, {_short(digest)}"
        raise DataError(f"{path}: {wanted}, found {_short(found)}")


def check_model(evaluation: Mapping[str, Any], model: str, digest: str, path: Path) -> None:
    """Raise :class:`DataError` if another model was evaluated: its figures would be registered with this one.

    An evaluation that names no digest is left to the gate.
    """
    found = as_mapping(as_mapping(evaluation.get("models")).get(model)).get("digest")
    if isinstance(found, str) and found != digest:
        wanted = f"expected the model that was evaluated, {_short(found)}"
        raise DataError(f"{path}: {wanted}, found {_short(digest)}: evaluate again")


def _check_control(reports: Mapping[str, Mapping[str, Any]], folders: Mapping[str, Path]) -> None:
    """The control's profile is the one that its pruning read; the evaluation reads only the other's."""
    made = as_mapping(reports["control_profile_report"].get("outputs")).get("profile")
    read = as_mapping(reports["control_prune_report"].get("inputs")).get("profile")
    if not isinstance(made, str) or read != made:
        file = folders["control_prune_report"] / REPORT
        wanted = f"expected the control's profile, {_short(made)}"
        raise DataError(f"{file}: inputs.profile: {wanted}, found {_short(read)}")


def _check_evaluation(report: Mapping[str, Any], file: Path) -> None:
    """What it says of a model or of the data is of the one that it read; the gate asks for what it lacks."""
    _check_stage(report, "evaluate", file)
    about = {**as_mapping(report.get("models")), "dataset": report.get("dataset")}
    for name, told in about.items():
        expected, found = as_mapping(report.get("inputs")).get(name), as_mapping(told).get("digest")
        if found is not None and found != expected:
            wanted = f"expected the one that was read, {_short(expected)}"
            raise DataError(f"{file}: {name}: {wanted}, found {_short(found)}")


def _check_stage(report: Mapping[str, Any], stage: str, file: Path) -> None:
    if report.get("stage") != stage:
        raise DataError(f"{file}: expected a report of {stage}, found {report.get('stage')!r}")


def _short(digest: object) -> str:
    return f"digest {digest[:16]}…" if isinstance(digest, str) else "no digest"
