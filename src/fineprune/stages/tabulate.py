"""tabulate: the evaluations of several pipeline runs in one table, for a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineprune.errors import ConfigError
from fineprune.reporting import page, sweep
from fineprune.reporting.table import as_markdown
from fineprune.stages.base import Result, Stage
from fineprune.stages.page import PAGE, VIEWS


@dataclass(frozen=True)
class TabulateConfig:
    """What to tabulate.

    Attributes:
        rows: what evaluate's ``--row`` wrote, one text for each pipeline run.
    """

    rows: tuple[str, ...]


def run(config: TabulateConfig, inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> Result:
    """Write the table as ``table.md`` and ``table.csv``.

    Raises:
        ConfigError: there are no rows.
        DataError: a row is malformed, or two are of the same run.
    """
    if not config.rows:
        raise ConfigError("tabulate.rows: expected at least one row, found none")
    groups = sweep.groups([sweep.read_run(text) for text in config.rows])
    tables = {name: sweep.table([run.models for run in several]) for name, several in groups.items()}
    text = "\n".join(
        f"## {name}, seeds {_seeds(groups[name])}\n\n{as_markdown(lines)}" for name, lines in tables.items()
    )
    (outputs["report"] / "table.md").write_text(text, encoding="utf-8")
    runs = [run for several in groups.values() for run in several]
    (outputs["report"] / "table.csv").write_text(sweep.as_csv(runs), encoding="utf-8")
    return Result(
        numbers={"runs": len(runs)},
        extra={"tables": {f"{name}, seeds {_seeds(groups[name])}": lines for name, lines in tables.items()}},
        text=text,
    )


def write_page(report: Mapping[str, Any], folder: Path, _: Mapping[str, Path]) -> None:
    """Write the tables as one page, ``page.html``."""
    html = page.render("sweep.html.j2", report=report)
    (folder / PAGE).write_text(html, encoding="utf-8")


def _seeds(runs: list[sweep.Run]) -> str:
    return ", ".join(str(run.seed) for run in runs)


STAGE = Stage(
    name="tabulate",
    config=TabulateConfig,
    inputs=(),
    outputs=("report",),
    run=run,
    after=write_page,
    views=VIEWS,
)
