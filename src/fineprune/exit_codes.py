"""What programs leave with, as the README promises it."""

FAILED, USER_ERROR, HELD, INTERRUPTED = 1, 2, 3, 130


def of_verdict(verdict: str) -> int:
    """0 for ``promoted``, 3 for ``held``; what is neither counts as not promoted, and is 1."""
    return {"promoted": 0, "held": HELD}.get(verdict, FAILED)
