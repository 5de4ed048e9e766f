"""Lines with the time so far, and what a terminal shows below them."""

import io

import pytest

from pipeline import live_line
from pipeline.live_line import LiveLine

from .terminal import Terminal


def test_clocks() -> None:
    assert [live_line.clock(seconds) for seconds in (0.9, 61, 3661.5)] == ["0:00", "1:01", "1:01:01"]


def told(out: io.StringIO) -> str:
    line = LiveLine(out)
    line.show("running: attack")
    line.tell("attack done")
    line.show("running: profile")
    line.clear()
    return out.getvalue()


def test_only_lines_that_stay_are_in_a_log() -> None:
    assert told(io.StringIO()) == "    0:00  attack done\n"


def test_on_a_terminal_the_live_line_makes_room_and_does_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    states = told(Terminal()).split("\r\x1b[K")  # which takes away what the line holds
    assert states == ["", "    0:00  running: atta", "    0:00  attack done\n", "    0:00  running: prof", ""]
