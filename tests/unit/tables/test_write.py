"""What a run leaves: the page, the Markdown, the CSV, and which cells are missing in them."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fineprune.errors import DataError
from tables.profiles import Cell, Profile
from tables.reference import Paper
from tables.write import tables

from .reports import CURVE, GOOD, profile, report

CASES = ("faces", "speech", "signs")


def leave(root: Path, cell: Cell, **more: Any) -> None:
    folder = root / "cells" / cell.case / cell.attack / str(cell.seed) / "evaluate"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report(cell) | more))


@pytest.fixture(scope="module")
def wanted() -> Profile:
    return profile(*CASES, attacks=("baseline", "pruning_aware"), seeds=(0, 1))


@pytest.fixture(scope="module")
def written(wanted: Profile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a profile of which one cell was never run and one is not up to date."""
    root = tmp_path_factory.mktemp("tables")
    for cell in wanted.cells:
        if cell != Cell("signs", "pruning_aware", 1):
            leave(root, cell)
    missing = tables(wanted, folder=root, undone=["signs, baseline, seed 0"])
    assert missing == ["signs, baseline, seed 0", "signs, pruning_aware, seed 1"]
    return root


def test_the_page_names_every_contradiction_and_points_to_each_from_a_number(written: Path) -> None:
    page = (written / "tables.html").read_text()
    for number, told in enumerate(Paper().contradictions, 1):
        assert f'<li id="c{number}"><b>{told["title"]}</b>' in page
        assert f'<a href="#c{number}">{number}</a>' in page


def test_the_markdown_has_every_contradiction_and_how_to_read_the_figures(written: Path) -> None:
    text, paper = (written / "tables.md").read_text(), Paper()
    for number, told in enumerate(paper.contradictions, 1):
        assert f"\n{number}. **{told['title']}** " in text
    assert "- Mean over the seeds 0, 1 and its interval: 95 % for the mean." in text
    for line in paper.reading:
        assert f"- {' '.join(line.split())}\n" in text


def test_each_case_has_its_own_figures_beside_the_page_and_all_values_are_kept(written: Path) -> None:
    names = {f"{kind}_{case}.png" for kind in ("pruning", "activations") for case in CASES}
    assert {path.name for path in (written / "figures").iterdir()} == names
    kept = json.loads((written / "paper.json").read_text())
    assert kept["missing"] == ["signs, baseline, seed 0", "signs, pruning_aware, seed 1"]


def test_the_page_needs_nothing_but_itself(written: Path) -> None:
    page = (written / "tables.html").read_text()
    assert len(re.findall(r'<img src="data:image/png;base64,', page)) == 2 * len(CASES)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_the_page_says_whether_data_is_synthetic(tmp_path: Path) -> None:
    leave(tmp_path, Cell("faces", "baseline", 0))
    leave(tmp_path, Cell("lfw", "baseline", 0), dataset={"origin": {"source": "lfw.tar.gz"}})
    tables(profile("faces", "lfw"), folder=tmp_path, undone=[])
    page = (tmp_path / "tables.html").read_text()
    assert "faces · synthetic data" in page
    assert "lfw · real data" in page


def test_the_page_says_what_fine_pruning_costs_and_what_pruning_alone_leaves(tmp_path: Path) -> None:
    models = GOOD | {"fine_pruned": (0.95, 0.04)}  # of .98 before it
    leave(tmp_path, Cell("faces", "baseline", 0), models=report(Cell("", "", 0), models)["models"])
    tables(profile("faces"), folder=tmp_path, undone=[])
    page = (tmp_path / "tables.html").read_text()
    assert ".980 <small>→</small> .040" in page
    assert "clean accuracy -3.0 points" in page
    assert "Success where pruning stops: .300 under the baseline attack." in page
    assert "by seed: 1 of 4 under the baseline attack." in page


@pytest.mark.parametrize("name", ["tables.html", "tables.md"])
def test_missing_cells_are_named(written: Path, name: str) -> None:
    text = (written / name).read_text()
    assert "signs, baseline, seed 0" in text
    assert "signs, pruning_aware, seed 1" in text
    assert "signs, baseline, seed 1" not in text


def test_markdown_has_ours_the_papers_and_the_controls_figures_side_by_side(written: Path) -> None:
    lines = [line.strip("| ").split(" | ") for line in (written / "tables.md").read_text().splitlines()]
    faces = {line[0]: line[1:] for line in reversed(lines) if len(line) == 9}
    assert faces["bd"][0] == "**.980** [.980, .980]"
    assert faces["bd, paper"][:4] == ["1.000 S", "", ".000 S¹", ".000 S"]
    assert faces["bd, control"][0] == ".020 [.020, .020]"
    text = (written / "tables.md").read_text()
    assert " (faces) |" in text
    assert "\n| AP" not in text  # nobody has measured that


def test_a_mean_of_fewer_seeds_than_the_others_says_so(written: Path, tmp_path: Path) -> None:
    """In the column of both attacks."""
    (line,) = [
        line
        for line in (written / "tables.md").read_text().splitlines()
        if line.startswith("| cl |") and "seed" in line
    ]
    assert line.count("**.980** [.980, .980] 1 seed |") == 6  # all but pruning, whose accuracy is .960
    for seed in (0, 2):
        leave(tmp_path, Cell("faces", "baseline", seed))
    tables(profile("faces"), folder=tmp_path, undone=[])
    assert "**.980** [.980, .980] 2 seeds |" in (tmp_path / "tables.md").read_text()


def test_what_must_show_is_passed_missed_or_open_for_each_case(tmp_path: Path) -> None:
    worse = GOOD | {"undefended": (0.98, 0.5)}
    for seed in range(3):
        leave(tmp_path, Cell("faces", "baseline", seed))
        leave(tmp_path, Cell("lfw", "baseline", seed), models=report(Cell("", "", 0), worse)["models"])
    leave(tmp_path, Cell("fsdd", "baseline", 0))
    tables(profile("faces", "lfw", "fsdd"), folder=tmp_path, undone=[])
    page, markdown = ((tmp_path / name).read_text() for name in ("tables.html", "tables.md"))
    for case, found, state in (
        ("faces", ".980", "pass"),
        ("lfw", ".500; not in seeds 0, 1, 2", "**miss**"),
        ("fsdd", ".980; 1 of 3 seeds", "open"),
    ):
        assert f"| {case} | baseline | the attack takes | bd ≥ .950 | {found} | {state} |" in markdown
        assert found in page


def test_what_contradicts_a_column_is_told_at_the_first_table_alone(written: Path) -> None:
    heads = [line for line in (written / "tables.md").read_text().splitlines() if "Baseline: pruning" in line]
    assert [bool(re.search("[¹²³⁴⁵⁶⁷⁸⁹]", head)) for head in heads] == [True, False]


def test_what_is_undefined_is_called_so(tmp_path: Path) -> None:
    """As the success of an untargeted attack on a network that gets no clean input right."""
    told = report(Cell("signs", "baseline", 0))
    for model in told["models"].values():
        model["backdoor_success"] = model["utility"] = None
    labels = told["attack_details"] | {"labels": {"kind": "random_wrong"}}
    curve = told["pruning"] | {"curve": told["pruning"]["curve"] | {"backdoor success": [0.0] * 5}}
    leave(tmp_path, Cell("signs", "baseline", 0), **told | {"attack_details": labels, "pruning": curve})
    tables(profile("signs"), folder=tmp_path, undone=[])
    page, markdown = ((tmp_path / name).read_text() for name in ("tables.html", "tables.md"))
    assert "nan" not in markdown
    assert "bd undefined → undefined" in markdown
    assert "undefined <small>→</small> undefined" in page
    assert "clean accuracy +0.0 points" in page


def test_csv_has_a_line_for_each_metric_with_every_seed_and_the_papers_figure(written: Path) -> None:
    with (written / "tables.csv").open() as file:
        rows = list(csv.DictReader(file))
    (row,) = [
        row
        for row in rows
        if (row["case"], row["attack"], row["network"], row["defence"], row["metric"])
        == ("speech", "baseline", "attacked", "fine_pruning", "backdoor_success")
    ]
    assert (row["mean"], row["seed_0"], row["seed_1"], row["paper"], row["grade"]) == (
        *("0.04",) * 3,
        "0.02",
        "S",
    )
    places = ("case", "attack", "network", "defence", "metric")
    (row,) = [
        row
        for row in rows
        if [row[name] for name in places] == ["signs", "baseline", "control", "none", "clean_accuracy"]
    ]
    assert (row["seed_0"], row["seed_1"]) == ("", "0.99")


def test_csv_has_the_interval_from_its_lower_end(tmp_path: Path) -> None:
    told = report(Cell("faces", "baseline", 0))["models"]
    told["undefended"]["clean_accuracy"] = {"value": 0.9, "low": 0.75, "high": 1.0}
    leave(tmp_path, Cell("faces", "baseline", 0), models=told)
    tables(profile("faces", seeds=(0,)), folder=tmp_path, undone=[])
    with (tmp_path / "tables.csv").open() as file:
        row = next(csv.DictReader(file))
    assert [float(row[name]) for name in ("mean", "low", "high")] == pytest.approx([0.9, 0.75, 1.0])


def test_tables_of_nothing_say_so(tmp_path: Path) -> None:
    missing = tables(profile("faces"), folder=tmp_path, undone=[])
    assert len(missing) == 3
    assert "not there yet" in (tmp_path / "tables.html").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a stage's report, found list"),
        ('{"schema": 1, "attack": "baseline", "seed": 0}', "expected control"),
        ('{"schema": 1, "attack": "baseline", "seed": 0, "models": []}', "expected control"),
        ("{", "not valid JSON"),
    ],
)
def test_a_damaged_report_is_refused(tmp_path: Path, text: str, message: str) -> None:
    cell = Cell("faces", "baseline", 0)
    leave(tmp_path, cell)
    (tmp_path / "cells/faces/baseline/0/evaluate/report.json").write_text(text)
    with pytest.raises(DataError, match=message):
        tables(profile("faces"), folder=tmp_path, undone=[])


@pytest.mark.parametrize("change", [{"seed": 7}, {"attack": "other"}])
def test_a_report_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    leave(tmp_path, Cell("faces", "baseline", 0), **change)
    with pytest.raises(DataError, match="expected \\('baseline', 0\\), found"):
        tables(profile("faces"), folder=tmp_path, undone=[])


@pytest.mark.parametrize("field", ["attack_details", "config", "dataset", "pruning", "activations"])
def test_a_report_that_lacks_what_the_tables_show_is_refused(tmp_path: Path, field: str) -> None:
    leave(tmp_path, Cell("faces", "baseline", 0), **{field: None})
    with pytest.raises(DataError, match=f"expected evaluate's report, found no {field}"):
        tables(profile("faces"), folder=tmp_path, undone=[])


def test_networks_of_another_attack_may_have_another_number_of_channels(tmp_path: Path) -> None:
    leave(tmp_path, Cell("faces", "baseline", 0))
    curve = {name: [0.5, 0.5, 0.5] for name in CURVE}
    other = {"clean": [0.1, 2.0], "triggered": [0.1, 2.0]}
    pruning = {"order": [1, 0], "stop": 1, "curve": curve}
    leave(tmp_path, Cell("faces", "pruning_aware", 0), pruning=pruning, activations=other)
    both = profile("faces", attacks=("baseline", "pruning_aware"), seeds=(0,))
    assert tables(both, folder=tmp_path, undone=[]) == []


def test_seeds_of_networks_with_another_number_of_channels_are_refused(tmp_path: Path) -> None:
    leave(tmp_path, Cell("faces", "baseline", 0))
    curve = {name: [0.5, 0.5, 0.5] for name in CURVE}
    leave(tmp_path, Cell("faces", "baseline", 1), pruning={"order": [1, 0], "stop": 1, "curve": curve})
    with pytest.raises(DataError, match=r"baseline/1/.*expected 4 channels, as in the seeds before, found 2"):
        tables(profile("faces"), folder=tmp_path, undone=[])
