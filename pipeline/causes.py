"""Why a server did not answer, in a few words."""

from __future__ import annotations

from fineprune.errors import without_credentials


def cause(error: BaseException) -> str:
    """What started it: ``[Errno 111] Connection refused`` says more than urllib3's account of its tries."""
    below = getattr(error, "reason", None)  # where urllib3 keeps it
    below = below if isinstance(below, BaseException) else error.__cause__ or error.__context__
    if below:
        return cause(below)
    return without_credentials(" ".join(str(error).split())) or type(error).__name__
