"""What a run tells on its way: lines with the time so far, and a live one where somebody is looking."""

from __future__ import annotations

import shutil
import time
from typing import TextIO


class LiveLine:
    """The time counts from when it is made.

    Args:
        out: where to write; the live line is shown if that is a terminal.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._started = time.monotonic()

    def tell(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        print(self._timed(text), file=self._out, flush=True)

    def show(self, text: str) -> None:
        """Replace the live line."""
        self._replace(self._timed(text))

    def clear(self) -> None:
        """Take the live line away."""
        self._replace("")

    def _timed(self, text: str) -> str:
        return f"{clock(time.monotonic() - self._started):>8}  {text}"

    def _replace(self, line: str) -> None:
        if self._out.isatty():
            width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be taken back
            print(f"\r\x1b[K{line[:width]}", end="", file=self._out, flush=True)


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
