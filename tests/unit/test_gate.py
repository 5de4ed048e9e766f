"""The gate passes good evidence and nothing else: one row per reason to hold, and properties on top."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineprune.gate import (
    CHECKS,
    RANGES,
    Champion,
    Interval,
    Thresholds,
    Verdict,
    challenge,
    decide,
    needs_gain,
)

DIGEST = "a" * 64
LIMITS = Thresholds(min_utility=0.8, max_clean_loss=0.05, min_samples=100)
PASSED = Verdict("promoted", ("everything was met.",))
BETTER = Interval(0.05, 0.01, 0.09, 400)


def good_report() -> dict[str, Any]:
    row = {
        "digest": DIGEST,
        "utility": {"value": 0.9, "low": 0.85, "high": 0.94, "n": 400},
        "clean_loss": {"value": 0.01, "low": -0.01, "high": 0.03, "n": 500},
        "clean_accuracy": {"value": 0.95, "low": 0.93, "high": 0.97, "n": 500},
        "backdoor_success": {"value": 0.05, "low": 0.03, "high": 0.08, "n": 400},
    }
    before = {
        "digest": "b" * 64,
        "clean_accuracy": {"value": 0.96, "low": 0.94, "high": 0.98, "n": 500},
        "backdoor_success": {"value": 0.99, "low": 0.97, "high": 1.0, "n": 400},
    }
    control = {
        "digest": "c" * 64,
        "clean_accuracy": {"value": 0.97, "low": 0.95, "high": 0.98, "n": 500},
        "backdoor_success": {"value": 0.02, "low": 0.01, "high": 0.04, "n": 400},
    }
    return {
        "models": {"undefended": before, "fine_pruned": row, "control": control},
        "attack_details": {"took": {"min_backdoor_success": 0.95, "max_clean_cost": 0.02}},
        "config": {"limits": {"min_control_accuracy": 0.9, "max_control_success": 0.3}},
        "attack_took": {"took": True, "reason": "backdoor success of the undefended model is 0.99"},
        "checks": [{"name": name, "passed": True, "message": "all inputs differ"} for name in CHECKS],
    }


def changed(*path: Any, to: Any) -> dict[str, Any]:
    report: Any = good_report()
    place = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return report


def without(*path: str) -> dict[str, Any]:
    report: Any = good_report()
    place = report
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return report


def row(*path: str) -> tuple[str, ...]:
    return ("models", "fine_pruned", *path)


def judge(report: Any, **options: Any) -> Verdict:
    return decide(report, **{"model": "fine_pruned", "model_digest": DIGEST, "thresholds": LIMITS, **options})


def test_good_evidence_passes_and_names_what_was_met() -> None:
    verdict = judge(good_report())
    assert verdict.promoted
    text = " ".join(verdict.reasons)
    for figure in (
        "0.85 reaches min_utility 0.8",
        "0.03 is within max_clean_loss 0.05",
        "400 test inputs",
        DIGEST[:16],
    ):
        assert figure in text
    assert "backdoor success of the undefended model is 0.99" in text
    assert "All sanity checks of the measurement passed (9)" in text


HELD = {
    "utility too low": (
        changed(*row("utility", "low"), to=0.7999),
        "utility 0.7999 is below min_utility 0.8",
    ),
    "loss too high": (
        changed(*row("clean_loss", "high"), to=0.0501),
        "clean_loss 0.0501 is above max_clean_loss 0.05",
    ),
    "other model": (
        changed(*row("digest"), to="b" * 64),
        "digest bbbbbbbbbbbbbbbb… was evaluated, aaaaaaaaaaaaaaaa… is to be promoted.",
    ),
    "no digest": (without(*row("digest")), "names no digest"),
    "empty digest": (changed(*row("digest"), to=""), "names no digest"),
    "digest no text": (changed(*row("digest"), to=7), "names no digest"),
    "no models": (without("models"), "utility is missing"),
    "models no mapping": (changed("models", to=["fine_pruned"]), "utility is missing"),
    "no row": (without(*row()), "utility is missing"),
    "utility null": (changed(*row("utility"), to=None), "utility is missing"),
    "utility a bare number": (changed(*row("utility"), to=0.9), "utility is missing"),
    "no low": (without(*row("utility", "low")), "utility has no number as low, but None"),
    "text for a number": (changed(*row("utility", "low"), to="0.9"), "no number as low, but '0.9'"),
    "bool for a number": (changed(*row("utility", "value"), to=True), "no number as value, but True"),
    "NaN": (changed(*row("utility", "low"), to=math.nan), "utility has low nan, outside [-1, 1]"),
    "NaN as high": (changed(*row("clean_loss", "high"), to=math.nan), "clean_loss has high nan"),
    "infinite": (changed(*row("utility", "high"), to=math.inf), "utility has high inf"),
    "huge": (changed(*row("utility", "high"), to=10**400), "utility has high 1000"),
    "accuracy below 0": (
        changed(*row("clean_accuracy", "low"), to=-0.1),
        "clean_accuracy has low -0.1, outside [0, 1]",
    ),
    "success above 1": (changed(*row("backdoor_success", "high"), to=1.1), "backdoor_success has high 1.1"),
    "loss below -1": (
        changed(*row("clean_loss", "low"), to=-1.1),
        "clean_loss has low -1.1, outside [-1, 1]",
    ),
    "value below low": (
        changed(*row("utility", "value"), to=0.84),
        "contradicts itself: 0.84 is not in its interval",
    ),
    "value above high": (changed(*row("clean_loss", "value"), to=0.04), "contradicts itself: 0.04"),
    "utility no difference": (
        changed(*row("clean_accuracy"), to={"value": 0.1, "low": 0.05, "high": 0.2, "n": 500}),
        "utility contradicts itself: 0.9 is not 0.1 − 0.05.",
    ),
    "loss no difference": (
        changed("models", "undefended", "clean_accuracy", "value", to=0.98),
        "clean_loss contradicts itself: 0.01 is not 0.98 − 0.95.",
    ),
    "loss no difference by little": (
        changed("models", "undefended", "clean_accuracy", "value", to=0.961),
        "clean_loss contradicts itself: 0.01 is not 0.961 − 0.95.",
    ),
    "utility of more inputs than its parts": (
        changed(*row("utility", "n"), to=500),
        "utility contradicts itself: it rests on 500 test inputs, not on 500 and 400.",
    ),
    "a loss between other inputs": (
        changed("models", "undefended", "clean_accuracy", "n", to=600),
        "clean_loss contradicts itself: it rests on 500 test inputs, not on 600 and 500.",
    ),
    "no undefended model": (without("models", "undefended"), "undefended: clean_accuracy is missing."),
    "an undefended model without a digest": (
        without("models", "undefended", "digest"),
        "undefended: the evaluation names no digest of this model.",
    ),
    "a control without a digest": (
        changed("models", "control", "digest", to=""),
        "control: the evaluation names no digest of this model.",
    ),
    "too few samples": (
        changed(*row("utility", "n"), to=99),
        "utility rests on 99 test inputs, fewer than min_samples 100",
    ),
    "too few triggered": (
        changed(*row("backdoor_success", "n"), to=20),
        "backdoor_success rests on 20 test inputs",
    ),
    "too few undefended": (
        changed("models", "undefended", "clean_accuracy", "n", to=99),
        "undefended: clean_accuracy rests on 99 test inputs, fewer than min_samples 100.",
    ),
    "no n": (without(*row("clean_loss", "n")), "clean_loss has no whole number of test inputs, but None"),
    "n no whole number": (
        changed(*row("utility", "n"), to=500.0),
        "no whole number of test inputs, but 500.0",
    ),
    "n a bool": (changed(*row("utility", "n"), to=True), "no whole number of test inputs, but True"),
    "attack did not take": (
        changed("attack_took", "took", to=False),
        "A low backdoor success then proves nothing.",
    ),
    "took unknown": (without("attack_took"), "does not say whether the attack took"),
    "took without a success": (
        without("models", "undefended", "backdoor_success"),
        "undefended: backdoor_success is missing",
    ),
    "a control without its accuracy": (
        without("models", "control", "clean_accuracy"),
        "control: clean_accuracy is missing",
    ),
    "took without a control": (without("models", "control"), "control: backdoor_success is missing"),
    "took no more than the control": (
        changed("models", "control", "backdoor_success", "high", to=0.97),
        "undefended model's backdoor_success, 0.97, is not above the upper end of the control's, 0.97.",
    ),
    "took on too few": (
        changed("models", "control", "backdoor_success", "n", to=99),
        "control: backdoor_success rests on 99 test inputs",
    ),
    "took a number": (changed("attack_took", "took", to=1), "does not say whether the attack took, but 1"),
    "check failed": (
        changed("checks", 0, "passed", to=False),
        "'finite outputs' failed: all inputs differ.",
    ),
    "check passed in a word": (
        changed("checks", 0, "passed", to="no"),
        "'finite outputs' failed: all inputs differ.",
    ),
    "check without a verdict": (
        changed("checks", 0, to={"name": "c"}),
        "Sanity check 'c' failed: no reason given.",
    ),
    "check no mapping": (changed("checks", 0, to="fine"), "Sanity check None failed"),
    "a check not made": (
        changed("checks", to=good_report()["checks"][1:]),
        "does not list the sanity checks finite outputs.",
    ),
    "a check under another name": (
        changed("checks", 3, "name", to="anything"),
        "does not list the sanity checks trigger changes inputs.",
    ),
    "no checks": (changed("checks", to=[]), "lists no sanity checks"),
    "checks missing": (without("checks"), "lists no sanity checks, but None"),
    "report empty": ({}, "utility is missing"),
    "report no mapping": ([], "utility is missing"),
}


@pytest.mark.parametrize(("report", "reason"), HELD.values(), ids=HELD)
def test_each_fault_holds_with_its_reason(report: Any, reason: str) -> None:
    verdict = judge(report)
    assert verdict.verdict == "held"
    assert any(reason in text for text in verdict.reasons), verdict.reasons
    assert all(text.endswith(".") and "\n" not in text for text in verdict.reasons)


def test_every_fault_is_told_and_nothing_that_was_met() -> None:
    report = changed(*row("utility"), to={"value": 0.5, "low": 0.4, "high": 0.6, "n": 400})
    report["models"]["fine_pruned"]["backdoor_success"] = {"value": 0.45, "low": 0.4, "high": 0.5, "n": 400}
    report["attack_took"]["took"] = False
    report["models"]["control"]["backdoor_success"]["n"] = 50
    report["checks"].append({"name": "control", "passed": False, "message": "the control shows the backdoor"})
    assert len(judge(report).reasons) == 4


@pytest.mark.parametrize(
    ("path", "threshold"), [(("utility", "low"), "min_utility"), (("clean_loss", "high"), "max_clean_loss")]
)
def test_exactly_on_the_threshold_passes(path: tuple[str, str], threshold: str) -> None:
    assert judge(changed(*row(*path), to=getattr(LIMITS, threshold))).promoted


def test_exactly_enough_samples_pass() -> None:
    report = good_report()
    for figure in ("utility", "backdoor_success"):
        report["models"]["fine_pruned"][figure]["n"] = 100
    assert judge(report).promoted


@pytest.mark.parametrize("field", ["min_utility", "max_clean_loss", "min_samples"])
def test_a_threshold_that_is_nan_holds(field: str) -> None:
    limits = Thresholds(**{**vars(LIMITS), field: math.nan})
    assert not judge(good_report(), thresholds=limits).promoted


def test_another_row_is_not_mistaken_for_the_model() -> None:
    assert not judge(good_report(), model="pruned").promoted


figures = st.sampled_from(sorted(RANGES))
numbers = st.sampled_from(["value", "low", "high", "n"])
rubbish = st.one_of(
    st.none(),
    st.text(),
    st.booleans(),
    st.just(math.nan),
    st.just(math.inf),
    st.just(-math.inf),
    st.lists(st.floats()),
)


@given(figures, numbers, rubbish)
def test_a_number_that_is_none_never_passes(figure: str, number: str, value: Any) -> None:
    assert not judge(changed(*row(figure, number), to=value)).promoted
    assert not judge(without(*row(figure, number))).promoted


@given(st.recursive(rubbish, lambda inner: st.dictionaries(st.sampled_from(sorted(good_report())), inner)))
def test_rubbish_is_held_and_never_raises(report: Any) -> None:
    assert not judge(report).promoted


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 200),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 200),
)
def test_better_evidence_never_turns_a_pass_into_a_hold(
    low: float, loss: float, middle: float, n: int, higher: float, less: float, more: int
) -> None:
    report = perfect_accuracy(utility={"value": max(low, middle), "low": low, "n": n}, loss=loss)
    least = max(low, higher)
    better = perfect_accuracy(
        utility={"value": max(least, middle), "low": least, "n": n + more}, loss=min(loss, less)
    )
    assert judge(better).promoted or not judge(report).promoted


def perfect_accuracy(utility: dict[str, Any], loss: float) -> dict[str, Any]:
    """A report whose model is always right on clean inputs where the undefended one never is."""
    report, rest = good_report(), {"high": 1.0, "n": utility["n"]}
    report["models"]["undefended"]["clean_accuracy"] |= {"value": 0.0, "low": 0.0, "n": utility["n"]}
    report["attack_details"]["took"]["max_clean_cost"] = 1.0
    report["models"]["fine_pruned"] |= {
        "utility": utility | {"high": 1.0},
        "clean_loss": {"value": -1.0, "low": -1.0, "high": loss, "n": utility["n"]},
        "clean_accuracy": {"value": 1.0, "low": 0.0} | rest,
        "backdoor_success": {"value": 1 - utility["value"], "low": 0.0} | rest,
    }
    return report


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ("undefended", "backdoor_success"),
            0.94,
            "backdoor_success of the undefended model is 0.94, min_backdoor_success 0.95.",
        ),
        (
            ("undefended", "clean_accuracy"),
            0.945,
            "the control less the undefended model's is 0.025, max_clean_cost 0.02.",
        ),
        (("control", "clean_accuracy"), 0.89, "of the control is 0.89, min_control_accuracy 0.9."),
        (("control", "backdoor_success"), 0.31, "of the control is 0.31, max_control_success 0.3."),
    ],
)
def test_what_the_figures_deny_is_not_believed(path: tuple[str, str], value: float, said: str) -> None:
    report = changed("models", *path, to={"value": value, "low": value, "high": value, "n": 500})
    reasons = judge(report).reasons
    assert f"The evaluation contradicts itself: {path[1]}" in " ".join(reasons)
    assert any(reason.endswith(said) for reason in reasons)


@pytest.mark.parametrize(
    ("place", "limit"),
    [
        (("attack_details", "took"), "min_backdoor_success"),
        (("attack_details", "took"), "max_clean_cost"),
        (("config", "limits"), "min_control_accuracy"),
        (("config", "limits"), "max_control_success"),
    ],
)
def test_a_report_has_to_name_the_limits_that_it_went_by(place: tuple[str, str], limit: str) -> None:
    report = without(*place, limit)
    assert judge(report).reasons == (f"The evaluation names no {limit}, but None.",)
    assert judge(changed(*place, limit, to=True)).reasons == (f"The evaluation names no {limit}, but True.",)


def test_figures_exactly_at_the_limits_are_within_them() -> None:
    report = good_report()
    report["attack_details"]["took"] = {"min_backdoor_success": 0.99, "max_clean_cost": 0.97 - 0.96 - 1e-9}
    report["config"]["limits"] = {"min_control_accuracy": 0.97, "max_control_success": 0.02}
    assert judge(report).promoted


def test_a_check_that_other_models_alone_fail_holds_none_but_them() -> None:
    report = good_report()
    (check,) = [one for one in report["checks"] if one["name"] == "precision kept"]
    check |= {"passed": False, "message": "AP of fine_tuned is .61", "models": ["fine_tuned"]}
    verdict = judge(report)
    assert verdict.promoted
    assert verdict.reasons[-1].endswith("passed (8), but for 'precision kept' of fine_tuned.")
    for models in (["fine_tuned", "fine_pruned"], [], None, "fine_tuned", [1]):
        check["models"] = models
        assert judge(report).reasons == ("Sanity check 'precision kept' failed: AP of fine_tuned is .61.",)


def test_a_doubt_from_elsewhere_counts() -> None:
    assert judge(good_report(), doubt="figures of another").reasons == ("fine_pruned: figures of another.",)


def test_the_evidence_that_properties_are_asked_of_can_pass() -> None:
    assert judge(perfect_accuracy({"value": 0.9, "low": 0.85, "n": 100}, loss=0.05)).promoted


def champion(
    version: str,
    gain: Interval | str | None = BETTER,
    *,
    comparable: bool = True,
    same_model: bool = False,
) -> Champion:
    return Champion(version, comparable, same_model, gain)


def against(champion: Champion | None, *, verdict: Verdict = PASSED, **options: Any) -> Verdict:
    return challenge(verdict, champion, **{"version": "7", "replace": "better", **options})


def test_without_a_champion_a_pass_stays_a_pass() -> None:
    verdict = against(None)
    assert verdict.reasons == ("everything was met.", "There is no champion to beat.")


@pytest.mark.parametrize(("low", "promoted"), [(0.0001, True), (0.0, False), (-0.01, False)])
def test_a_challenger_must_be_clearly_above_the_champion(low: float, promoted: bool) -> None:
    verdict = against(champion("3", Interval(0.02, low, 0.05, 400)))
    assert verdict.promoted is promoted
    verb = "is clearly above" if promoted else "is not clearly above"
    told = f"+0.0200 ({low:+.4f} to +0.0500)"
    assert verdict.reasons[-1] == f"Utility {verb} the champion's, version 3: {told}, input by input."


def test_a_champion_whose_outcomes_are_gone_stays_until_it_is_replaced_on_purpose() -> None:
    alone = champion("3", "the run is deleted")
    held = against(alone)
    assert held.reasons == (
        "Utility cannot be compared with the champion's, version 3: the run is deleted; "
        "or set replace_champion to 'always' to replace it.",
    )
    assert not against(champion("3", None)).promoted
    assert against(alone, replace="always").promoted


def test_a_champion_measured_on_something_else_stays_until_it_is_replaced_on_purpose() -> None:
    elsewhere = champion("3", comparable=False)
    held = against(elsewhere)
    assert not held.promoted
    assert "version 3, was measured on other data or with another trigger" in held.reasons[0]
    assert against(elsewhere, replace="always").promoted


@pytest.mark.parametrize("comparable", [True, False])
def test_the_champion_keeps_its_place_when_judged_again(comparable: bool) -> None:
    verdict = against(champion("7", Interval(0, -0.01, 0.01, 400), comparable=comparable))
    assert verdict.promoted
    assert "champion already" in verdict.reasons[-1]


def test_the_champions_network_keeps_its_place_when_measured_again() -> None:
    verdict = against(champion("3", "not asked for", same_model=True))
    assert verdict.promoted
    assert verdict.reasons[-1] == "The champion, version 3, is the same network, measured before."
    assert not against(champion("3", same_model=True, comparable=False)).promoted


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (True, {}),
        (False, {"version": "3"}),
        (False, {"replace": "always"}),
        (False, {"verdict": Verdict("held", ("too bad.",))}),
        (False, {"champion": champion("3", comparable=False)}),
        (False, {"champion": champion("3", same_model=True)}),
    ],
)
def test_a_gain_is_asked_for_where_the_verdict_hangs_on_it(asked: bool, given: dict[str, Any]) -> None:
    with_all = {"verdict": PASSED, "champion": champion("3"), "version": "7", "replace": "better"} | given
    assert needs_gain(**with_all) is asked
    apart = [
        challenge(**with_all | {"champion": replace(with_all["champion"], gain=gain)})
        for gain in (BETTER, "gone")
    ]
    assert (apart[0] != apart[1]) is asked


def test_no_comparison_rescues_a_held_version() -> None:
    held = Verdict("held", ("too bad.",))
    assert against(None, verdict=held) is held
    assert against(champion("3"), verdict=held, replace="always") is held


@given(st.one_of(st.text(max_size=5), st.builds(Interval, *[st.floats()] * 3, st.integers())))
def test_only_a_gain_beats_the_champion(gain: Interval | str) -> None:
    if against(champion("3", gain)).promoted:
        assert isinstance(gain, Interval)
        assert gain.low > 0
