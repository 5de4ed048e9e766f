"""Progress that is read from a log."""

import threading

import pytest
from tqdm import tqdm

from fineprune.progress import bar, in_threads, progress


@pytest.fixture
def each_state(monkeypatch):
    """Every state is shown, not one in ten seconds."""
    plain = tqdm.__init__

    def patched(self, *arguments, **options):
        plain(self, *arguments, **{**options, "mininterval": 0, "miniters": 1, "delay": 0})

    monkeypatch.setattr(tqdm, "__init__", patched)


def test_each_state_is_a_line_of_its_own(each_state, capsys):
    for done, _ in enumerate(progress("abc", total=3, name="attack", unit="epoch")):
        told = capsys.readouterr().err
        assert told.startswith("attack:"), done  # at once, not when the next state or the end comes
        assert told.endswith("\n")
        assert f"| {done}/3 [" in told.splitlines()[-1]
    assert "| 3/3 [" in capsys.readouterr().err


def test_a_bar_within_another_has_lines_too(each_state, capsys):
    for _ in progress("ab", total=2, name="evaluate", unit="model"):
        for _ in progress("xy", total=2, name="curve", unit="batch"):
            pass
    told = capsys.readouterr().err
    assert "\r" not in told
    assert "\x1b" not in told
    lines = told.splitlines()
    assert all(line.startswith(("evaluate:", "curve:")) for line in lines)
    assert len([line for line in lines if "curve: 100%" in line]) == 2


def test_the_same_state_is_not_told_twice(capsys):
    shown = bar(total=2, bar_format="{n_fmt}/{total_fmt}")
    shown.refresh()
    shown.refresh()
    shown.update()
    shown.close()
    assert capsys.readouterr().err.splitlines() == ["0/2", "1/2"]


def test_where_nobody_looks_there_is_a_line_every_ten_seconds():
    with bar(total=1) as shown:
        assert shown.mininterval == 10


@pytest.mark.parametrize("ahead", [1, 2, 3, 4096])
def test_what_threads_do_comes_in_order_and_whole(monkeypatch, ahead):
    monkeypatch.setattr("fineprune.progress._AHEAD", ahead)
    assert in_threads(str, range(5), threads=2, name="fetch", unit="file") == ["0", "1", "2", "3", "4"]


def test_several_threads_are_at_work_and_the_first_error_ends_it():
    both = threading.Barrier(2, timeout=30)

    def work(number):
        both.wait()
        if number:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        in_threads(work, range(2), threads=2, name="fetch", unit="file")


def test_what_is_done_within_a_second_shows_nothing(capsys):
    assert list(progress("abc", total=3, name="ingest", unit="clip")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
