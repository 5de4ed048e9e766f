"""tabulate from the command line: tables for people and programs, and what is refused."""

import errno
import io
import json
import sys
from pathlib import Path

import pytest

from fineprune.cli import main
from tests.unit.reporting.test_sweep import row


def tabulate(folder: Path, *rows: str) -> int:
    paths = ["--report", str(folder / "report"), "--page", str(folder / "sweep.html")]
    return main(["tabulate", "--params", json.dumps({"rows": rows}), *paths])


def test_the_runs_become_a_table_and_a_page(tmp_path: Path) -> None:
    assert tabulate(tmp_path, row(0, 0.5), row(1, 0.75), row(0, 0.25, case="fsdd")) == 0
    text = (tmp_path / "report" / "table.md").read_text()
    assert text.index("## digits, baseline, seeds 0, 1") < text.index("## fsdd, baseline, seeds 0")
    assert "| fine-pruned | .625 (.500, .750) |" in text
    assert len((tmp_path / "report" / "table.csv").read_text().splitlines()) == 1 + 3 * 5
    page = (tmp_path / "sweep.html").read_text()
    assert page.count("<table>") == 2
    assert '<td data-name="cl">.625 (.500, .750)</td>' in page


def test_a_terminal_that_takes_nothing_costs_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert tabulate(tmp_path, row(0, 0.5)) == 0
    assert (tmp_path / "report" / "table.md").exists()


def test_no_rows_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tabulate(tmp_path) == 2
    expected = "fineprune tabulate: error: tabulate.rows: expected at least one row, found none\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "report").exists()
