"""What DVC prints, understood: which stage it begins, how far that stage is, and why one failed."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

_BEGINS = re.compile(r"^Running stage '(?:[^']*:)?([^':]+)'")
_SKIPPED = re.compile(r"^Stage '(?:[^']*:)?([^':]+)' didn't change")
_UNABLE = re.compile(r"^ERROR: failed to reproduce '(?:[^']*:)?([^':]+)'(?:: (.*))?")
# What fineprune.progress prints: ``attack, control:  27%|##6       | 8/30 [09:12<25:18, 69.0s/epoch]``.
_PROGRESS = re.compile(r"^(.+?): +\d+%\|[^|]*\| (\d+/\d+) \[[\d:]+<(?:([\d:]+)|\?),")
# DVC's words for its own lock, and for that on a path which another one reads or writes.
_BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")


@dataclass(frozen=True)
class Doing:
    """How far a step says that it is: ``attack, control 8/30``, and the seconds that this still takes, where
    it knows.
    """

    what: str
    left: float | None


def begun(line: str) -> str | None:
    """The target that DVC says it begins; None for any other line."""
    return _target(_BEGINS, line)


def skipped(line: str) -> str | None:
    """The target that DVC says has not changed; None for any other line."""
    return _target(_SKIPPED, line)


def doing(line: str) -> Doing | None:
    """What a line of a step's progress says; None for any other line."""
    match = _PROGRESS.match(line)
    if match is None:
        return None
    seconds = 0.0
    for part in (match[3] or "").split(":"):
        seconds = 60 * seconds + float(part or 0)
    return Doing(f"{match[1]} {match[2]}", seconds if match[3] else None)


def is_busy(lines: Sequence[str]) -> bool:
    """Whether DVC says that another DVC is in its way."""
    return any(words in line for words in _BUSY for line in lines)


def refused(lines: Sequence[str]) -> str | None:
    """The target that DVC says last it could not reproduce; None where it says so of none."""
    refusal = _refusal(lines)
    return refusal[1] if refusal else None


def cause(lines: Sequence[str]) -> str:
    """Why a step failed, in one line: its own last word, DVC's reason for not running it, or the last line
    that is not DVC's comment on it.
    """
    told = [" ".join(line.split()) for line in lines if line.strip()]
    for line in reversed(told):
        if match := re.match(r"fineprune \w+: error: (.*)", line):
            return match[1]
    refusal = _refusal(told)
    why = (refusal[2] or "") if refusal else ""
    if ended := re.search(r"exited with (-\d+)$", why):
        return f"ended by {signal.Signals(-int(ended[1])).name}"
    if why and not why.startswith("failed to run"):
        return why
    others = [line for line in told if not (_UNABLE.match(line) or line.startswith(("> ", "Running stage")))]
    last = others[-1] if others else refusal[0] if refusal else "DVC said nothing"
    return last.removeprefix("ERROR: ")


def _target(pattern: re.Pattern[str], line: str) -> str | None:
    match = pattern.match(line)
    return match[1] if match else None


def _refusal(lines: Sequence[str]) -> re.Match[str] | None:
    """What DVC says last that it could not reproduce, a target and why; None where it says so of none."""
    return next((match for line in reversed(lines) if (match := _UNABLE.match(line))), None)
