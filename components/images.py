"""Which image a stage runs in, where the cluster's settings name no other."""

VERSION = "0.1.0"
"""Of fineprune, whose command line the components call."""


def image(stage: str) -> str:
    """The image of a stage as ``make images`` tags it: ``fineprune:0.1.0-prune``."""
    return f"fineprune:{VERSION}-{stage}"
