"""What a stage's report says that it read and wrote, as the evaluation of the same run read it."""

from collections.abc import Mapping
from typing import Any

from fineprune.custody import STEPS
from fineprune.stages.evaluate import MODELS
from fineprune.stages.evaluate import STAGE as EVALUATE

# What the evaluation read, each with a digest of its own.
MEASURED = {name: f"{number:064x}" for number, name in enumerate(EVALUATE.inputs)}


# Where the control's profile is named, which the evaluation does not read.
CONTROLS_PROFILE = {"control_profile_report": "outputs", "control_prune_report": "inputs"}


def evaluation() -> dict[str, Any]:
    """The part of the evaluation's report that says what was read and measured."""
    models = {name: {"digest": MEASURED[name]} for name in MODELS}
    dataset = {"digest": MEASURED["dataset"]}
    return {"stage": "evaluate", "inputs": dict(MEASURED), "models": models, "dataset": dataset}


def handed_on(flag: str, measured: Mapping[str, str] = MEASURED) -> dict[str, dict[str, str]]:
    """``inputs`` and ``outputs`` of the report behind a flag of promote."""
    step = STEPS[flag]
    told = {
        "inputs": {name: measured[known_as] for name, known_as in step.inputs.items()},
        "outputs": {name: measured[known_as] for name, known_as in step.outputs.items()},
    }
    if side := CONTROLS_PROFILE.get(flag):
        told[side]["profile"] = "c" * 64
    return told
