"""What a stage's report says that it read and wrote, as the evaluation of the same run read it."""

from fineprune.custody import STEPS
from fineprune.stages.evaluate import STAGE as EVALUATE

# What the evaluation read, each with a digest of its own.
MEASURED = {name: f"{number:064x}" for number, name in enumerate(EVALUATE.inputs)}


def handed_on(flag: str) -> dict[str, dict[str, str]]:
    """``inputs`` and ``outputs`` of the report behind a flag of promote."""
    step = STEPS[flag]
    return {
        "inputs": {name: MEASURED[known_as] for name, known_as in step.inputs.items()},
        "outputs": {name: MEASURED[known_as] for name, known_as in step.outputs.items()},
    }
