import pytest

from fineprune.errors import DataError
from fineprune.reporting.table import COLUMNS, columns, interval, number, rows, text_table


def estimate(value, low, high):
    return {"value": value, "low": low, "high": high, "n": 200}


def model(clean, success):
    return {
        "clean_accuracy": estimate(clean, clean - 0.02, min(1, clean + 0.01)),
        "backdoor_success": estimate(success, max(0, success - 0.01), min(1, success + 0.02)),
        "robust_accuracy": estimate(0.5, 0.4, 0.6),
        "utility": estimate(clean - success, -1, 1),
    }


def models():
    """All the models that the table knows, in an order that is not the table's."""
    names = [
        "fine_pruned",
        "control_fine_pruned",
        "pruned",
        "undefended",
        "control_pruned",
        "fine_tuned",
        "control_fine_tuned",
        "control",
    ]
    return {name: model(0.98, 0.015) for name in names}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9834, ".983"),
        (1.0, "1.000"),
        (0.0, ".000"),
        (-0.0, ".000"),
        (-0.0642, "-.064"),
        (-0.0001, ".000"),
        (0.99996, "1.000"),
        (-1.0, "-1.000"),
        (float("nan"), "undefined"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_interval():
    assert interval(estimate(0.983, 0.968, 0.991)) == ".983 [.968, .991]"
    assert interval(None) == "undefined"


def test_text_table_has_rows_and_columns_in_order():
    lines = text_table(models()).splitlines()
    assert lines[0].split() == ["model", "cl", "bd", "RA", "utility"]
    labels = [line.split("  ")[0] for line in lines[1:]]
    assert labels == [
        "control",
        "undefended",
        "pruned",
        "fine-tuned",
        "fine-pruned",
        "control, pruned",
        "control, fine-tuned",
        "control, fine-pruned",
    ]
    assert ".980 [.960, .990]  .015 [.005, .035]" in lines[1]


def test_text_table_is_aligned_and_narrow_at_its_widest():
    widest = models()
    for name in widest:
        widest[name] = {column: estimate(0.123, 0.001, 1.0) for column in widest[name]}
        widest[name]["utility"] = estimate(-0.123, -1.0, -0.001)
    widest["undefended"]["backdoor_success"] = None
    lines = text_table(widest).splitlines()
    assert max(map(len, lines)) <= 110
    starts = {line.index("-.123") for line in lines[1:]}
    assert len(starts) == 1
    assert "undefined" in lines[2]


def test_a_detector_has_one_column_more():
    found = models()
    for measured in found.values():
        measured["average_precision"] = estimate(0.71, 0.65, 0.77)
    found["pruned"]["average_precision"] = None
    assert columns(models()) == COLUMNS
    lines = text_table(found).splitlines()
    assert lines[0].split() == ["model", "cl", "bd", "RA", "utility", "AP@0.5"]
    assert [line.endswith(".710 [.650, .770]") for line in lines[1:4]] == [True, True, False]
    assert lines[3].endswith("undefined")


def test_unknown_models_follow():
    named = rows({"second_seed": model(0.9, 0.1)} | models())
    assert list(named)[-1] == "second_seed"
    assert named["second_seed"] == "second seed"


def test_a_control_that_was_not_defended_has_no_row():
    found = {name: measured for name, measured in models().items() if not name.startswith("control_")}
    assert list(rows(found)) == ["control", "undefended", "pruned", "fine_tuned", "fine_pruned"]


def test_a_missing_model_is_refused():
    incomplete = models()
    del incomplete["control"]
    with pytest.raises(DataError, match="found no control"):
        text_table(incomplete)
