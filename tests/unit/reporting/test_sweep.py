"""The table of several runs: a mean that is mental arithmetic, each run's value, and what is refused."""

import csv
import json
from typing import Any

import pytest

from fineprune.errors import DataError
from fineprune.reporting.sweep import as_csv, as_row, cell, groups, read_run, table
from fineprune.reporting.table import REQUIRED, ROWS, as_markdown, number


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 100}


def row(seed: int, value: float, *, case: str = "digits", **changes: Any) -> str:
    figures = ("clean_accuracy", "backdoor_success", "robust_accuracy", "utility")
    models = {name: {figure: estimate(value) for figure in figures} for name in REQUIRED}
    return as_row({"case": case, "attack": "baseline", "seed": seed, "models": models} | changes)


def test_a_cell_is_the_mean_and_then_each_run() -> None:
    assert cell([estimate(0.5), estimate(0.75)]) == ".625 (.500, .750)"
    assert cell([estimate(0.5), estimate(0.5), estimate(0.8)]) == ".600 (.500, .500, .800)"
    assert cell([estimate(0.5)]) == ".500"
    assert cell([estimate(0.5), None]) == "undefined"


def test_runs_are_grouped_by_case_and_attack_in_the_order_of_their_seeds() -> None:
    runs = [read_run(text) for text in (row(2, 0.5), row(0, 0.75), row(0, 0.25, case="fsdd"))]
    found = groups(runs)
    assert {name: [run.seed for run in several] for name, several in found.items()} == {
        "digits, baseline": [0, 2],
        "fsdd, baseline": [0],
    }
    lines = table([run.models for run in found["digits, baseline"]])
    assert lines[0] == ["model", "cl", "bd", "RA", "utility"]
    assert lines[1] == ["control", *[".625 (.750, .500)"] * 4]
    assert as_markdown(lines).splitlines()[1] == "| --- | --- | --- | --- | --- |"


def test_the_csv_has_every_figure_with_its_interval() -> None:
    lines = list(csv.DictReader(as_csv([read_run(row(3, 0.5))]).splitlines()))
    assert [line["model"] for line in lines] == list(REQUIRED)
    assert lines[0]["seed"] == "3"
    assert [float(lines[0][f"utility{end}"]) for end in ("", "_low", "_high")] == [0.5, 0.4, 0.6]


def detected(seed: int, value: float | None) -> str:
    told = json.loads(row(seed, 0.5, case="signs"))
    models = {
        name: {figure: estimate(0.5) for figure in measured}
        | {"average_precision": None if value is None else estimate(value)}
        for name, measured in told["models"].items()
    }
    return row(seed, 0.5, case="signs", models=models)


def test_a_detectors_average_precision_is_a_column_of_its_table_alone() -> None:
    lines = table([read_run(text).models for text in (detected(0, 0.5), detected(1, 0.75))])
    assert lines[0][-1] == "AP@0.5"
    assert lines[1][-1] == ".625 (.500, .750)"
    assert table([read_run(detected(0, None)).models])[1][-1] == "undefined"


def test_the_csv_of_several_cases_leaves_empty_what_one_has_not() -> None:
    lines = list(csv.DictReader(as_csv([read_run(row(0, 0.5)), read_run(detected(0, 0.75))]).splitlines()))
    found = {line["case"]: line["average_precision"] for line in lines}
    assert found == {"digits": "", "signs": "0.75"}
    assert "average_precision" not in as_csv([read_run(row(0, 0.5))])


def test_an_undefined_figure_is_empty_in_the_csv() -> None:
    told = json.loads(row(0, 0.5))
    told["models"]["control"]["backdoor_success"] = None
    line = next(csv.DictReader(as_csv([read_run(json.dumps(told))]).splitlines()))
    assert (line["backdoor_success"], line["backdoor_success_low"]) == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"case": "a", "attack": "b", "seed": 0, "models": 3}',
        "[" * 100_000,
        row(0, 0.5).replace("0.5", "null"),
        row(0, 0.5).replace("0.5", '"high"'),
        row(0, 0.5).replace("0.5", "0.5,0.5"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="rows: expected what evaluate's --row wrote, found"):
        read_run(text)


def test_a_run_without_a_required_model_is_refused() -> None:
    with pytest.raises(DataError, match="found no control"):
        read_run(row(0, 0.5, models={}))


def test_runs_of_other_models_are_not_one_table() -> None:
    found = [read_run(row(seed, 0.5)).models for seed in (0, 1)]
    more = {**found[1], "control_pruned": found[1]["control"]}
    for several in ([found[0], more], [more, found[0]]):
        with pytest.raises(DataError, match="in every run, found"):
            table(several)


def test_the_same_run_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"digits, baseline: expected each seed once, found \[1, 1\]"):
        groups([read_run(row(1, 0.5)), read_run(row(1, 0.25))])


def test_a_row_is_read_back_to_nine_digits() -> None:
    found = read_run(row(3, 0.12345678912))
    assert (found.case, found.attack, found.seed) == ("digits", "baseline", 3)
    assert found.models["control"]["utility"] == {
        "value": 0.123456789,
        "low": 0.023456789,
        "high": 0.223456789,
    }


def test_a_figure_is_rounded_once() -> None:
    shares = {wins / n for n in (101, 539) for wins in range(n)}
    for share in shares:
        assert cell([read_run(row(0, share)).models["control"]["utility"]]) == number(share)


def test_the_rows_of_fifty_runs_fit_into_an_argument() -> None:
    """Kubeflow's driver and launcher hand them on inside another JSON, hence with every quote escaped."""
    figures = ("clean_accuracy", "backdoor_success", "robust_accuracy", "utility")
    models = {name: {figure: estimate(0.1234567891) for figure in figures} for name in ROWS}
    text = as_row({"case": "road_signs", "attack": "pruning_aware", "seed": 1234, "models": models})
    assert len(json.dumps(json.dumps([text] * 50))) < 128 * 1024
