"""Everything that a run leaves for people and programs: paper.json, tables.md, tables.csv, tables.html."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fineprune.files import write_json
from fineprune.outputs import whole_outputs
from fineprune.reporting import page, table
from fineprune.reporting.table import number
from tables import figures, layout
from tables.checks import points
from tables.measured import read_cells
from tables.profiles import Profile
from tables.reference import Paper
from tables.result import BOUNDS, assemble


def tables(profile: Profile, *, folder: Path, undone: Collection[str]) -> list[str]:
    """Write the tables of a profile; gives the cells that are missing in them.

    Args:
        profile: which cells.
        folder: for the files; the cells are in its ``cells/``.
        undone: cells, as text, whose report is of an earlier state.

    Raises:
        DataError: a cell's report is damaged.
        MissingExtraError: Jinja or matplotlib is not installed.
    """
    paper = Paper()
    reports = read_cells(profile, folder / "cells", undone=undone)
    result = assemble(profile, reports, paper)
    names = {"json": "paper.json", "markdown": "tables.md", "csv": "tables.csv", "html": "tables.html"}
    with whole_outputs(
        {key: folder / name for key, name in names.items()} | {"figures": folder / "figures"}
    ) as out:
        out["figures"].mkdir()
        write_json(out["json"], result)
        out["markdown"].write_text(as_markdown(result, paper), encoding="utf-8")
        out["csv"].write_text(as_csv(result), encoding="utf-8")
        out["html"].write_text(as_html(result, paper, _draw(result, out["figures"])), encoding="utf-8")
    missing: list[str] = result["missing"]
    return missing


def as_markdown(result: Mapping[str, Any], paper: Paper) -> str:
    """Both tables, the checks, the paper's contradictions and what is missing."""
    parts = [
        f"## Clean accuracy (cl) and backdoor success (bd), profile {result['profile']}\n",
        layout.as_markdown(result, paper, layout.FIRST),
        "## Utility of the defender, cl − bd\n",
        layout.as_markdown(result, paper, layout.SECOND),
        _legend(result, paper),
        "## What the numbers must show\n",
        _checks_as_markdown(result),
        "## Where the paper contradicts itself\n",
        "\n".join(f"{c['number']}. **{c['title']}** {c['text']}" for c in result["contradictions"]) + "\n",
    ]
    if result["missing"]:
        parts += ["## Missing\n", "\n".join(f"- {cell}" for cell in result["missing"]) + "\n"]
    return "\n".join(parts)


def as_csv(result: Mapping[str, Any]) -> str:
    """Every figure, one line for each metric of each cell."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    seeds = [f"seed_{seed}" for seed in result["seeds"]]
    writer.writerow(
        ["case", "attack", "network", "defence", "metric", "mean", "low", "high", *seeds, "paper", "grade"]
    )
    for cell in result["cells"]:
        for metric in BOUNDS:
            if found := cell["measured"][metric]:
                values = [found["seeds"].get(str(seed), {}).get("value", "") for seed in result["seeds"]]
                stated = cell["paper"].get(metric) or {"value": "", "grade": ""}
                writer.writerow(
                    [
                        *(cell[name] for name in ("case", "attack", "network", "defence")),
                        metric,
                        *(found[name] for name in ("value", "low", "high")),
                        *values,
                        stated["value"],
                        stated["grade"],
                    ]
                )
    return file.getvalue()


def as_html(result: Mapping[str, Any], paper: Paper, pictures: Mapping[str, Mapping[str, Path]]) -> str:
    """The page, with its figures inside."""
    captions = {"pruning": _at_the_stop(result), "activations": _backdoor_only(result)}
    shown = {
        kind: [
            {
                "title": _title(paper, case),
                "caption": captions[kind][case],
                "source": page.pictures({case: file})[0]["source"],
            }
            for case, file in files.items()
        ]
        for kind, files in pictures.items()
    }
    return page.render(
        "paper.html.j2",
        beside=Path(__file__).parent,
        result=result,
        paper=paper,
        terms=layout.TERMS,
        tables=[layout.groups(result, paper, metrics) for metrics in (layout.FIRST, layout.SECOND)],
        headings=[
            {"title": layout.ATTACKS[attack], "attack": attack, "defences": layout.DEFENCES}
            for attack in result["attacks"]
        ],
        outcome=_outcome(result, paper),
        checks=_checks(result, paper),
        pictures=shown,
    )


def _title(paper: Paper, case: str) -> str:
    study = paper.study(case)
    return paper.studies[study]["title"] if study else case


def _legend(result: Mapping[str, Any], paper: Paper) -> str:
    grades = "; ".join(f"{grade} {text}" for grade, text in paper.grades.items())
    lines = [
        layout.TERMS,
        f"Mean over the seeds {', '.join(map(str, result['seeds']))} and its interval: {result['interval']}",
        f"Grades of the paper's figures: {grades}. Small numbers point to the list of contradictions.",
        *paper.reading,
    ]
    return "\n".join(f"- {' '.join(line.split())}" for line in lines) + "\n"


def _checks_as_markdown(result: Mapping[str, Any]) -> str:
    words = {True: "pass", False: "**miss**", None: "open"}
    lines = [["case", "attack", "what", "required", "found", ""]]
    for check in result["checks"]:
        texts = (check[name] for name in ("case", "attack", "name", "required", "found"))
        lines.append([*texts, words[check["passed"]]])
    return table.as_markdown(lines)


def _draw(result: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Path]]:
    """The figures of each case, as far as its reports go."""
    found: dict[str, dict[str, Path]] = {"pruning": {}, "activations": {}}
    for case in result["cases"]:
        for kind in found:
            if told := [entry for entry in result[kind] if entry["case"] == case]:
                found[kind][case] = folder / f"{kind}_{case}.png"
                if kind == "pruning":
                    figures.pruning_curves(found[kind][case], told)
                else:
                    figures.activations(found[kind][case], told)
    return found


def _outcome(result: Mapping[str, Any], paper: Paper) -> list[dict[str, Any]]:
    """For each case and attack: backdoor success before and after fine-pruning, and the accuracy it cost."""
    means = {
        (cell["case"], cell["attack"], cell["defence"]): cell["measured"]
        for cell in result["cells"]
        if cell["network"] == "attacked"
    }
    found = []
    for case in result["cases"]:
        attacks = []
        for attack in result["attacks"]:
            before, after = means.get((case, attack, "none")), means.get((case, attack, "fine_pruning"))
            if before and after:
                gain = after["clean_accuracy"]["value"] - before["clean_accuracy"]["value"]
                success = [
                    number(one["backdoor_success"]["value"]) if one["backdoor_success"] else "undefined"
                    for one in (before, after)
                ]
                told = {"title": layout.ATTACKS[attack], "gain": points(gain)}
                attacks.append(told | dict(zip(("before", "after"), success, strict=True)))
        found.append({"case": case, "title": _title(paper, case), "attacks": attacks})
    return found


def _checks(result: Mapping[str, Any], paper: Paper) -> dict[str, Any]:
    """The checks as a table: a line for each name, a column for each case and attack."""
    columns = list(dict.fromkeys((check["case"], check["attack"]) for check in result["checks"]))
    found = {(check["name"], check["case"], check["attack"]): check for check in result["checks"]}
    return {
        "groups": [
            {"title": _title(paper, case), "attack": layout.ATTACKS[attack]} for case, attack in columns
        ],
        "lines": {
            name: [found.get((name, *column)) for column in columns]
            for name in dict.fromkeys(check["name"] for check in result["checks"])
        },
    }


def _at_the_stop(result: Mapping[str, Any]) -> dict[str, str]:
    """What pruning alone leaves of the backdoor, a sentence for each case."""
    found: dict[str, list[str]] = {case: [] for case in result["cases"]}
    for cell in result["cells"]:
        success = cell["measured"]["backdoor_success"]
        if success and (cell["network"], cell["defence"]) == ("attacked", "pruning"):
            found[cell["case"]].append(f"{number(success['value'])} under the {_attack(cell)}")
    return {case: f"Success where pruning stops: {', '.join(told)}." for case, told in found.items()}


def _backdoor_only(result: Mapping[str, Any]) -> dict[str, str]:
    """How many channels hardly fire without the trigger, seed by seed, a sentence for each case."""
    found: dict[str, list[str]] = {case: [] for case in result["cases"]}
    for told in result["activations"]:
        counts = ", ".join(str(len(one["backdoor_only"])) for one in told["seeds"].values())
        channels = len(next(iter(told["seeds"].values()))["clean"])
        found[told["case"]].append(f"{counts} of {channels} under the {_attack(told)}")
    return {
        case: "Channels over three times as active with the trigger, and above 5 % of the most active one, "
        f"by seed: {'; '.join(told)}."
        for case, told in found.items()
    }


def _attack(of: Mapping[str, Any]) -> str:
    return layout.ATTACKS[of["attack"]].lower()
