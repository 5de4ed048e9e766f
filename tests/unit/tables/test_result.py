"""paper.json: cells, intervals, the paper's figures beside ours, checks and what is missing."""

import math
from typing import Any

import pytest

from fineprune.reporting.drawing import backdoor_only
from tables.profiles import Cell
from tables.reference import Paper
from tables.result import assemble

from .reports import GOOD, estimate, profile, report


def reports(*cells: Cell, **more: Any) -> dict[Cell, dict[str, Any]]:
    return {cell: report(cell, **more) for cell in cells}


def cell_of(result: dict[str, Any], defence: str, network: str = "attacked", case: str = "faces") -> Any:
    (found,) = [
        cell
        for cell in result["cells"]
        if (cell["case"], cell["network"], cell["defence"]) == (case, network, defence)
    ]
    return found


def check_of(result: dict[str, Any], name: str) -> Any:
    (found,) = [check for check in result["checks"] if check["name"] == name]
    return found["passed"]


def test_a_cell_has_the_mean_of_its_seeds_each_seeds_value_and_the_papers() -> None:
    wanted = profile("faces")
    found = reports(*wanted.cells)
    for cell, value in zip(wanted.cells, (0.01, 0.03, 0.05), strict=True):
        found[cell]["models"]["fine_pruned"]["backdoor_success"] = estimate(value)
    told = cell_of(assemble(wanted, found, Paper()), "fine_pruning")
    success = told["measured"]["backdoor_success"]
    half = 4.303 * 0.02 / math.sqrt(3)
    assert success["value"] == pytest.approx(0.03)
    assert (success["low"], success["high"]) == pytest.approx((0, 0.03 + half))
    assert {seed: one["value"] for seed, one in success["seeds"].items()} == {"0": 0.01, "1": 0.03, "2": 0.05}
    assert told["paper"]["backdoor_success"] == {"value": 0.0, "grade": "S", "note": ""}
    assert told["paper"]["utility"]["value"] == 0.978
    assert told["measured"]["robust_accuracy"]["value"] == pytest.approx(0.96)


def test_every_defence_is_there_for_the_attacked_network_and_the_control() -> None:
    result = assemble(profile("faces"), reports(*profile("faces").cells), Paper())
    found = {(cell["network"], cell["defence"]): cell["model"] for cell in result["cells"]}
    assert found == {
        ("attacked", "none"): "undefended",
        ("attacked", "pruning"): "pruned",
        ("attacked", "fine_tuning"): "fine_tuned",
        ("attacked", "fine_pruning"): "fine_pruned",
        ("control", "none"): "control",
        ("control", "pruning"): "control_pruned",
        ("control", "fine_tuning"): "control_fine_tuned",
        ("control", "fine_pruning"): "control_fine_pruned",
    }
    assert cell_of(result, "none", "control")["paper"]["clean_accuracy"] is None


def test_missing_cells_are_named_and_the_others_told() -> None:
    wanted = profile("faces", "signs", seeds=(0, 1))
    result = assemble(wanted, reports(Cell("faces", "baseline", 1)), Paper())
    assert result["missing"] == [
        "faces, baseline, seed 0",
        "signs, baseline, seed 0",
        "signs, baseline, seed 1",
    ]
    assert {cell["case"] for cell in result["cells"]} == {"faces"}
    assert cell_of(result, "none")["seeds"] == [1]


def test_a_metric_that_one_seed_does_not_have_is_none() -> None:
    wanted = profile("faces", seeds=(0, 1))
    found = reports(*wanted.cells)
    found[wanted.cells[1]]["models"]["undefended"]["utility"] = None
    assert cell_of(assemble(wanted, found, Paper()), "none")["measured"]["utility"] is None


@pytest.mark.parametrize("metric", ["utility", "clean_loss"])
def test_a_difference_may_be_negative(metric: str) -> None:
    wanted = profile("faces")
    found = reports(*wanted.cells)
    for one in found.values():
        one["models"]["fine_pruned"][metric] = {"value": -0.2, "low": -0.3, "high": -0.1}
    told = cell_of(assemble(wanted, found, Paper()), "fine_pruning")["measured"][metric]
    assert (told["value"], told["low"], told["high"]) == pytest.approx((-0.2, -0.3, -0.1))


def test_curves_and_activations_are_in_pruning_order_by_seed() -> None:
    wanted = profile("faces", seeds=(3,))
    result = assemble(wanted, reports(*wanted.cells), Paper())
    (curves,), (activations,) = result["pruning"], result["activations"]
    assert curves["seeds"]["3"]["stop"] == 2
    assert curves["seeds"]["3"]["backdoor_success"] == [0.98, 0.98, 0.3, 0.1, 0.0]
    # Channel 0, second to be pruned, is at 0.1 without the trigger and at 1.0 with it.
    assert activations["seeds"]["3"]["clean"] == [0.0, 0.1, 1.0, 2.0]
    assert activations["seeds"]["3"]["backdoor_only"] == [1]
    assert activations["seeds"]["3"]["stop"] == 2


@pytest.mark.parametrize(
    ("clean", "triggered", "expected"), [(1, 3, False), (1, 3.1, True), (0, 0.4, False), (0, 0.6, True)]
)
def test_a_channel_is_the_backdoors_where_the_trigger_trebles_it_and_it_matters(
    clean: float, triggered: float, expected: bool
) -> None:
    assert backdoor_only([clean, 10], [triggered, 10]).tolist() == [expected, False]


NAMES = {
    "the control has learned": {"control": (0.84, 0)},
    "the attack takes": {"undefended": (0.98, 0.94)},
    "the attack stays hidden": {"undefended": (0.96, 0.98)},
    "fine-pruning: backdoor": {"fine_pruned": (0.98, 0.06)},
    "fine-pruning: accuracy": {"fine_pruned": (0.96, 0.04)},
    "fine-pruning: utility": {"fine_tuned": (0.98, 0.03)},
}


def test_what_must_show_passes_where_it_shows() -> None:
    wanted = profile("faces")
    checks = assemble(wanted, reports(*wanted.cells), Paper())["checks"]
    assert {check["name"]: check["required"] for check in checks} == {
        "the control has learned": "cl ≥ .850",
        "the attack takes": "bd ≥ .950",
        "the attack stays hidden": "cl at most 2 points below the control's",
        "pruning alone": "bd at most a third of its start, at most 4 points of cl lost",
        "fine-pruning: backdoor": "bd ≤ .050",
        "fine-pruning: accuracy": "cl at most 1 point lost",
        "fine-pruning: utility": "at least fine-tuning's, within the interval of the difference over the "
        "seeds",
    }
    assert all(check["passed"] for check in checks)


@pytest.mark.parametrize("name", NAMES)
def test_what_must_show_is_missed_where_it_does_not(name: str) -> None:
    wanted = profile("faces")
    result = assemble(wanted, reports(*wanted.cells, models=GOOD | NAMES[name]), Paper())
    assert check_of(result, name) is False


@pytest.mark.parametrize(
    ("name", "figures", "passed"),
    [
        ("fine-pruning: backdoor", (0.98, 0.05), True),
        ("fine-pruning: backdoor", (0.98, 0.051), False),
        ("fine-pruning: accuracy", (0.97, 0.04), True),
        ("fine-pruning: accuracy", (0.969, 0.04), False),
    ],
)
def test_what_fine_pruning_must_show_ends_where_it_is_said_to(
    name: str, figures: tuple[float, float], passed: bool
) -> None:
    wanted = profile("faces")
    result = assemble(wanted, reports(*wanted.cells, models=GOOD | {"fine_pruned": figures}), Paper())
    assert check_of(result, name) is passed


def test_a_mean_that_some_seed_falls_short_of_names_it() -> None:
    wanted = profile("faces")
    found = reports(*wanted.cells)
    found[wanted.cells[1]]["models"]["undefended"] = report(
        wanted.cells[1], GOOD | {"undefended": (0.969, 0.94)}
    )["models"]["undefended"]
    lines = {check["name"]: check for check in assemble(wanted, found, Paper())["checks"]}
    assert lines["the attack takes"]["found"] == ".967; not in seed 1"
    assert lines["the attack takes"]["passed"]
    assert lines["the attack stays hidden"]["found"] == ".976, control .990; not in seed 1"


def test_each_seed_is_held_against_its_own_start() -> None:
    wanted = profile("signs")
    found = reports(*wanted.cells)
    for one in found.values():
        one["attack_details"] = {
            "labels": {"kind": "random_wrong"},
            "took": {"min_backdoor_success": 0.2, "max_clean_cost": 0.02},
        }
    low = {"control": (0.9, 0.02), "undefended": (0.885, 0.3), "fine_pruned": (0.88, 0.2)}
    found[wanted.cells[1]]["models"] = report(wanted.cells[1], GOOD | low)["models"]
    lines = {check["name"]: check["found"] for check in assemble(wanted, found, Paper())["checks"]}
    assert "not in" not in lines["the attack stays hidden"] + lines["fine-pruning: accuracy"]
    assert lines["fine-pruning: backdoor"].endswith("; not in seed 1")


def test_seeds_in_which_the_defence_falls_short_are_named_too() -> None:
    wanted = profile("faces")
    found = reports(*wanted.cells)
    worse = GOOD | {"fine_pruned": (0.96, 0.1)}
    found[wanted.cells[2]]["models"]["fine_pruned"] = report(wanted.cells[2], worse)["models"]["fine_pruned"]
    lines = {check["name"]: check for check in assemble(wanted, found, Paper())["checks"]}
    for name in ("fine-pruning: backdoor", "fine-pruning: accuracy"):
        assert lines[name]["found"].endswith("; not in seed 2"), lines[name]
        assert (
            "not in"
            not in {
                check["name"]: check for check in assemble(wanted, reports(*wanted.cells), Paper())["checks"]
            }[name]["found"]
        )


def test_fewer_than_three_seeds_leave_every_line_open() -> None:
    wanted = profile("faces", seeds=(0, 1))
    checks = assemble(wanted, reports(*wanted.cells), Paper())["checks"]
    assert {check["passed"] for check in checks} == {None}
    assert all(check["found"].endswith("; 2 of 3 seeds") for check in checks)


def pruned_to(attack: str, stop: int, clean: list[float], success: list[float]) -> Any:
    """The line on pruning where every seed has this curve."""
    curve = {"clean accuracy": clean, "backdoor success": success, "robust accuracy": [0.0] * len(clean)}
    wanted = profile("faces", attacks=(attack,))
    told = {"order": [2, 0, 3, 1], "stop": stop, "curve": curve}
    checks = assemble(wanted, reports(*wanted.cells, pruning=told), Paper())["checks"]
    (found,) = [check for check in checks if check["name"] == "pruning alone"]
    return found


@pytest.mark.parametrize(("left", "passed"), [(0.3, True), (0.31, False)])
def test_under_the_baseline_attack_pruning_must_leave_a_third(left: float, passed: bool) -> None:
    assert pruned_to("baseline", 2, [0.9] * 5, [0.9, 0.9, left, 0.0, 0.0])["passed"] is passed


@pytest.mark.parametrize(("left", "passed"), [(0.71, False), (0.72, True)])
def test_under_the_pruning_aware_attack_pruning_must_leave_most(left: float, passed: bool) -> None:
    assert pruned_to("pruning_aware", 2, [0.9] * 5, [0.9, 0.9, left, 0.9, 0.9])["passed"] is passed


def test_pruning_that_costs_too_much_is_judged_where_it_still_does_not() -> None:
    """The stop is at 3; four points pay for two channels, and it does not help that the fourth is free."""
    curves = [0.9, 0.9, 0.86, 0.85, 0.9], [0.9, 0.9, 0.8, 0.1, 0.0]
    found = pruned_to("baseline", 3, *curves)
    assert found["passed"] is False
    assert found["found"] == (
        "bd .900 → .800 (88.9%), cl -4.0 points; seeds 0, 1, 2 before the stop, which cost more"
    )


def test_a_pruning_aware_backdoor_has_to_survive_the_stop_however_much_that_cost() -> None:
    found = pruned_to("pruning_aware", 3, [0.9, 0.9, 0.86, 0.85, 0.9], [0.9, 0.9, 0.8, 0.1, 0.0])
    assert (found["found"], found["passed"]) == ("bd .900 → .100 (11.1%), cl -5.0 points", False)
    found = pruned_to("pruning_aware", 3, [0.9, 0.9, 0.86, 0.85, 0.9], [0.9, 0.9, 0.1, 0.8, 0.0])
    assert found["found"].startswith("bd .900 → .100 (11.1%), cl -4.0 points; seeds 0, 1, 2 before")


def test_pruning_of_a_backdoor_that_never_worked_is_open() -> None:
    found = pruned_to("baseline", 2, [0.9] * 5, [0.0] * 5)
    assert (found["found"], found["passed"]) == ("bd .000 → .000 (undefined), cl +0.0 points", None)


def test_no_loss_is_told_without_a_minus() -> None:
    found = pruned_to("baseline", 1, [0.9] * 5, [0.9] * 5)["found"]
    assert found == "bd .900 → .900 (100.0%), cl +0.0 points"


def test_utility_is_compared_seed_by_seed_and_open_where_seeds_differ_too_much() -> None:
    wanted = profile("faces")

    def check(*differences: float) -> Any:
        found = reports(*wanted.cells)
        for one, base, difference in zip(found.values(), (0.1, 0.5, 0.9), differences, strict=True):
            one["models"]["fine_tuned"]["utility"] = estimate(base)
            one["models"]["fine_pruned"]["utility"] = estimate(base + difference)
        lines = assemble(wanted, found, Paper())["checks"]
        (line,) = [line for line in lines if line["name"] == "fine-pruning: utility"]
        return line["found"], line["passed"]

    assert check(-0.02, -0.02, -0.02) == ("-.020 ± .000", False)
    assert check(-0.02, -0.01, 0.0) == ("-.010 ± .025", True)
    assert check(0.1, 0.0, -0.1) == ("+.000 ± .248", None)
    # A wide interval on one side of zero is no doubt.
    assert check(-0.5, -0.6, -0.4) == ("-.500 ± .248", False)
    assert check(0.5, 0.6, 0.4) == ("+.500 ± .248", True)


def untargeted(left: float, precision: float, attack: str = "baseline") -> Any:
    wanted = profile("signs", attacks=(attack,))
    found = reports(*wanted.cells, models=GOOD | {"fine_pruned": (0.98, left)})
    for one in found.values():
        one["attack_details"] = {
            "labels": {"kind": "random_wrong"},
            "took": {"min_backdoor_success": 0.8, "max_clean_cost": 0.02},
        }
        for model in one["models"].values():
            model["average_precision"] = estimate(precision)
    return assemble(wanted, found, Paper())


def test_an_untargeted_backdoor_must_be_three_times_weaker_after_fine_pruning() -> None:
    assert check_of(untargeted(0.98 / 3, 0.6), "fine-pruning: backdoor") is True
    assert check_of(untargeted(0.33, 0.6), "fine-pruning: backdoor") is False
    aware = untargeted(0.33, 0.6, "pruning_aware")["checks"]
    assert "fine-pruning: backdoor" not in {check["name"] for check in aware}


def test_a_backdoor_whose_success_is_undefined_in_one_seed_leaves_its_checks_open() -> None:
    wanted = profile("signs")
    found = reports(*wanted.cells)
    for one in found.values():
        one["attack_details"]["labels"] = {"kind": "random_wrong"}
    found[wanted.cells[1]]["models"]["undefended"]["backdoor_success"] = None
    result = assemble(wanted, found, Paper())
    assert check_of(result, "the attack takes") is None
    assert check_of(result, "fine-pruning: backdoor") is None


def test_a_detectors_control_is_judged_by_its_average_precision() -> None:
    assert check_of(untargeted(0.1, 0.6), "the control has learned") is True
    assert check_of(untargeted(0.1, 0.59), "the control has learned") is False


def test_a_check_without_its_number_is_open() -> None:
    wanted = profile("faces", seeds=(0,))
    found = reports(*wanted.cells)
    found[wanted.cells[0]]["models"]["fine_pruned"]["utility"] = None
    assert check_of(assemble(wanted, found, Paper()), "fine-pruning: utility") is None
