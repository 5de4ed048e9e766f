"""The command: what it leaves with, and how it shares the cores out."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from tables import __main__ as program
from tables.job import Failure
from tables.run import FOLDER, Outcome

FAILED = Failure("faces, baseline, seed 0", "prune", "no", Path("prune.log"))


@pytest.mark.parametrize(
    ("failures", "missing", "code"),
    [([], [], 0), ([FAILED], [], 2), ([], ["faces, baseline, seed 0"], 2)],
)
def test_all_cells_have_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: list[Failure], missing: list[str], code: int
) -> None:
    asked: dict[str, Any] = {}

    def run(_: Any, **given: Any) -> Outcome:
        asked.update(given)
        return Outcome(failures, missing)

    def write(_: Any, *, folder: Path, undone: list[str], **__: Any) -> list[str]:
        (folder / "tables.md").write_text("| table |")
        return undone

    (tmp_path / FOLDER).mkdir(parents=True)
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "_cores", lambda: 8)
    monkeypatch.setattr(program, "run", run)
    monkeypatch.setattr(program.write, "tables", write)
    assert program.main(["quick", "--jobs", "3", "--source", f"faces={tmp_path}"]) == code
    assert (asked["jobs"], asked["threads"], asked["sources"]) == (3, 2, {"faces": tmp_path})


def test_a_source_without_a_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        program.main(["real", "--no-run", "--source", "lfw=lfw.tar.gz"])
    assert "--source: expected a run that reads it, found --no-run" in capsys.readouterr().err


def test_nobody_who_listens_is_no_reason_to_fail_after_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "tables.md").write_text("| table |")
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "run", lambda *_, **__: Outcome([FAILED], []))
    monkeypatch.setattr(program.write, "tables", lambda *_, **__: [])
    monkeypatch.setattr(sys, "stdout", Gone())
    assert program.main(["quick"]) == 2
    assert capsys.readouterr().err == f"python -m tables: {FAILED}\n"
