"""How a decision is told: where the version is, on a page, in a terminal."""

import json
from pathlib import Path

import pytest

from fineprune.decision import Decision, as_page, as_text, write


def decision(
    verdict: str = "promoted", *, before: str | None = None, reasons: tuple[str, ...] = ("Good.",)
) -> Decision:
    """Of version 2 of digits, where version ``before`` was champion."""
    alias = "champion" if verdict == "promoted" else "candidate"
    return Decision(
        verdict, reasons, "fine_pruned", "m", "digits", "2", alias, before, "e", "run", "sqlite:///mlflow.db"
    )


@pytest.mark.parametrize(
    ("verdict", "before", "place"),
    [
        ("promoted", None, "is now champion, the first"),
        ("promoted", "1", "is now champion, in place of version 1"),
        ("promoted", "2", "is still champion"),
        ("held", None, "is now candidate; there is no champion"),
        ("held", "1", "is now candidate; version 1 stays champion"),
        ("held", "2", "is held now, but still champion from an earlier decision: move the alias by hand"),
    ],
)
def test_says_where_the_version_is_and_who_is_champion(verdict: str, before: str | None, place: str) -> None:
    told = decision(verdict, before=before)
    assert told.place == f"digits version 2 {place}"
    assert told.stays == ("still champion" in place and verdict == "promoted")
    assert told.contradicts_alias == ("by hand" in place)


def test_the_page_has_the_reasons_and_each_figure_that_is_whole() -> None:
    numbers = {
        f"{model}.{figure}{end}": value
        for model in ("fine_pruned", "undefended")
        for figure in ("clean_accuracy", "utility")
        for end, value in {"": 0.9, ".low": 0.85, ".high": 0.92001, ".n": 400.0}.items()
    }
    del numbers["fine_pruned.clean_accuracy.low"]
    assert as_page(decision("held", reasons=("One.", "Two.")), numbers).splitlines() == [
        "# held: fine_pruned",
        "",
        "digits version 2 is now candidate; there is no champion.",
        "",
        "- One.",
        "- Two.",
        "",
        "| figure | value | 95 % interval | test inputs |",
        "|---|---:|---:|---:|",
        "| utility | 0.9000 | 0.8500 to 0.9200 | 400 |",
    ]


def test_a_long_reason_is_wrapped_and_a_command_is_not(tmp_path: Path) -> None:
    command = "mlflow ui --backend-store-uri " + "x" * 100
    text = as_text(decision("held", reasons=("word " * 60,)), report=tmp_path, look_at=command)
    first, *lines, last = text.splitlines()
    assert first == "held: fine_pruned"
    assert last == f"runs      {command}"
    reason = [line for line in lines if "word" in line]
    assert [line[:5] for line in reason] == ["  - w", *["    w"] * (len(reason) - 1)]
    assert 100 < max(map(len, reason)) <= 110
    assert text.count("word") == 60


def test_programs_find_the_verdict_first(tmp_path: Path) -> None:
    write(tmp_path, decision(), page="page\n", text="text")
    found = json.loads((tmp_path / "decision.json").read_text())
    assert next(iter(found.items())) == ("verdict", "promoted")
    assert found["reasons"] == ["Good."]
    assert (tmp_path / "verdict.md").read_text() == "page\n"
    assert (tmp_path / "summary.txt").read_text() == "\ntext\n"
