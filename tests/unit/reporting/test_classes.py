from dataclasses import asdict

from fineprune.evaluation.intervals import Estimate
from fineprune.reporting.classes import MOST, costliest


def estimate(value):
    return Estimate(value, value - 0.1, value + 0.1, 20)


def figures(**values):
    """Estimates by model; the control's are there too, and not asked for."""
    return {
        model: [None if value is None else estimate(value) for value in values.get(model, [0.5] * 3)]
        for model in ("control", "undefended", "fine_tuned", "fine_pruned")
    }


def test_the_class_that_fine_pruning_costs_most_comes_first():
    found = costliest(figures(undefended=[0.9, 0.8, 0.3], fine_pruned=[0.8, 0.4, 0.5]), ["a", "b", "c"])
    assert [one["class"] for one in found] == ["b", "a", "c"]
    assert found[0] == {
        "class": "b",
        "undefended": asdict(estimate(0.8)),
        "fine_tuned": asdict(estimate(0.5)),
        "fine_pruned": asdict(estimate(0.4)),
    }


def test_a_class_that_lacks_a_figure_is_left_out():
    found = costliest(figures(fine_tuned=[0.1, None, 0.2]), ["a", "b", "c"])
    assert [one["class"] for one in found] == ["a", "c"]


def test_no_more_than_fit_on_a_page():
    many = [estimate(0.9)] * 99
    lost = [estimate(0.9)] * 98 + [estimate(0.1)]
    classes = [str(number) for number in range(99)]
    found = costliest({"undefended": many, "fine_tuned": many, "fine_pruned": lost}, classes)
    assert [one["class"] for one in found] == ["98", *classes[: MOST - 1]]
