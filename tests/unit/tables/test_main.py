"""The command: what it leaves with, and how it shares the cores out."""

import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fineprune.errors import ConfigError
from tables import __main__ as program
from tables.job import Failure
from tables.run import FOLDER, Outcome

FAILED = Failure("faces, baseline, seed 0", "prune", "no", Path("prune.log"))


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What the program does at a signal, it does not do in the tests after this one."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


@pytest.mark.parametrize("fault", [ConfigError("two\n  lines"), OSError("two lines")])
def test_a_fault_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> Outcome:
        raise fault

    monkeypatch.setattr(program, "run", fail)
    assert program.main(["quick"]) == 2
    assert capsys.readouterr().err == "python -m tables: error: two lines\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_and_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.setattr(program, "run", lambda *_, **__: signal.raise_signal(number))
    assert program.main(["quick"]) == 130
    told = capsys.readouterr().err
    assert told == "python -m tables: interrupted; the same command goes on from here\n"


def test_without_a_run_the_tables_of_what_is_there_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "run", lambda *_, **__: pytest.fail("ran all the same"))
    monkeypatch.setattr(program.write, "tables", lambda *_, **__: [])
    assert program.main(["quick", "--no-run"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "expected a whole number above 0, found '0'"),
        (["--jobs", "-1"], "expected a whole number above 0, found '-1'"),
        (["--source", "faces"], "expected CASE=PATH, found 'faces'"),
        (["--source", "faces="], "expected CASE=PATH, found 'faces='"),
        (["--source", "=lfw"], "expected CASE=PATH, found '=lfw'"),
        (["slow"], "invalid choice: 'slow'"),
        (["--job=2"], "unrecognized arguments: --job=2"),
    ],
)
def test_a_mistake_in_the_command_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        program.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_more_jobs_than_cores_get_one_thread_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: Any, threads: int, **__: Any) -> Outcome:
        raise ConfigError(f"threads: {threads}")

    monkeypatch.setattr(program, "_cores", lambda: 2)
    monkeypatch.setattr(program, "run", run)
    assert program.main(["quick", "--jobs", "3"]) == 2
    assert capsys.readouterr().err == "python -m tables: error: threads: 1\n"
