"""Evidence and thresholds in, a verdict with reasons out.

Pure: it opens no file, asks no server, and refuses nothing by an exception. Whatever is missing,
mistyped, NaN, out of range, self-contradictory or measured on too little data counts against the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fineprune.errors import excerpt
from fineprune.files import as_mapping

# The figures that the decision rests on, and the values that each may take. Utility is the difference of
# clean accuracy and backdoor success, so these two must be measured well enough too.
RANGES = {
    "utility": (-1.0, 1.0),
    "clean_loss": (-1.0, 1.0),
    "clean_accuracy": (0.0, 1.0),
    "backdoor_success": (0.0, 1.0),
}
DEFENDED = ("fine_tuned", "fine_pruned")  # the models that may be promoted
TOLERANCE = 1e-6  # of a figure that follows from others
# What an evaluation has to have been checked for, by the names that fineprune.evaluation.checks gives.
CHECKS = (
    "finite outputs",
    "enough samples",
    "new inputs",
    "trigger changes inputs",
    "control accurate",
    "control resists",
    "trigger needed",
    "classes told apart",
    "precision kept",
)


@dataclass(frozen=True)
class Thresholds:
    """What the evidence must reach.

    Attributes:
        min_utility: for the lower end of utility's interval, in [-1, 1].
        max_clean_loss: for the upper end of the loss of clean accuracy's interval, in [-1, 1].
        min_samples: for the number of test inputs behind each figure.
    """

    min_utility: float
    max_clean_loss: float
    min_samples: int


@dataclass(frozen=True)
class Verdict:
    """What was decided, and why: the conditions that were met, or the ones that were not."""

    verdict: Literal["promoted", "held"]
    reasons: tuple[str, ...]

    @property
    def promoted(self) -> bool:
        """Whether the model may become the champion."""
        return self.verdict == "promoted"


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, and the number of test inputs behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Champion:
    """The version that has the alias now.

    Attributes:
        version: its number.
        comparable: whether it was measured with the same trigger on the same data.
        same_model: whether it is the challenger's network, weight by weight.
        gain: the challenger's utility minus its own, input by input, or what is missing to tell; None where
            it was not asked for, see :func:`needs_gain`.
    """

    version: str
    comparable: bool
    same_model: bool
    gain: Interval | str | None = None


@dataclass(frozen=True)
class _Finding:
    met: bool
    text: str


def decide(
    report: Mapping[str, Any],
    *,
    model: str,
    model_digest: str,
    thresholds: Thresholds,
    doubt: str | None = None,
) -> Verdict:
    """Judge one model by the evaluation's report.

    It passes only if the lower end of its utility and the upper end of its loss of clean accuracy are within
    the thresholds, each figure rests on enough test inputs, the evaluated model is the very one to be
    promoted, the attack took on the undefended model, clearly beyond what the trigger does to the control
    (without that, a low backdoor success proves nothing), the figures agree with each other and with what
    the report says of them, and every one of :data:`CHECKS` was made and passed: those that only other
    models fail count as passed.

    Args:
        report: the evaluation's ``report.json``; its content is not trusted.
        model: the model's row in ``report["models"]``.
        model_digest: the SHA-256 of the ``model.json`` that would be promoted.
        thresholds: what the evidence must reach.
        doubt: what speaks against the figures besides the report's own account; None for nothing.

    Returns:
        ``promoted`` with every condition that was met, or ``held`` with every one that was not.
    """
    models = as_mapping(as_mapping(report).get("models"))
    row = as_mapping(models.get(model))
    figures = {name: read_interval(row.get(name), *limits) for name, limits in RANGES.items()}
    before = _figure(models, "undefended", "clean_accuracy")
    findings = [
        _same_model(row, model, model_digest),
        *_figures_keep(figures, model, thresholds),
        *_usable("undefended", "clean_accuracy", before, thresholds),
        *_usable("control", "clean_accuracy", _figure(models, "control", "clean_accuracy"), thresholds),
        *_figures_agree(figures, model, before),
        _attack_took(report),
        *_attack_shows(models, thresholds),
        *_word_kept(report, models),
        *_checks_passed(report, model),
    ]
    if doubt:
        findings.append(_Finding(False, f"{model}: {doubt}."))
    unmet = tuple(finding.text for finding in findings if not finding.met)
    return Verdict("held", unmet) if unmet else Verdict("promoted", tuple(f.text for f in findings))


def challenge(
    verdict: Verdict,
    champion: Champion | None,
    *,
    version: str,
    replace: Literal["better", "always"],
) -> Verdict:
    """Compare a version that passed with the present champion; a held one stays held.

    The champion's own network passes when it is measured again, by which its figures may differ a little.
    A champion that was measured on something else, or whose outcomes are not to be had, keeps its place,
    because nothing shows that the challenger is better; ``always`` replaces it.

    Args:
        verdict: what :func:`decide` said of the challenger.
        champion: the present champion, or None where there is none yet.
        version: the challenger's version.
        replace: ``better`` asks that the challenger's utility be clearly above the champion's: the interval
            of the difference lies above zero. ``always`` asks nothing.
    """
    if not verdict.promoted:
        return verdict
    met, text = _against(champion, version, replace)
    return Verdict("promoted", (*verdict.reasons, text)) if met else Verdict("held", (text,))


def needs_gain(
    verdict: Verdict, champion: Champion, *, version: str, replace: Literal["better", "always"]
) -> bool:
    """Whether :func:`challenge` would read the champion's ``gain``, which is dear to find out."""
    asked = verdict.promoted and replace == "better" and champion.version != version
    return asked and champion.comparable and not champion.same_model


def read_interval(value: object, low: float, high: float) -> Interval | str:
    """The figure in a report as an :class:`Interval` within [low, high], or what is wrong with it."""
    entry = as_mapping(value)
    if not entry:
        return "is missing"
    for name in ("value", "low", "high"):
        number = entry.get(name)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return f"has no number as {name}, but {excerpt(number)}"
        if not low <= number <= high:  # NaN fails too
            return f"has {name} {excerpt(number)}, outside [{low:g}, {high:g}]"
    if not entry["low"] <= entry["value"] <= entry["high"]:
        return "contradicts itself: {value:.6g} is not in its interval {low:.6g} to {high:.6g}".format(
            **entry
        )
    count = entry.get("n")
    if isinstance(count, bool) or not isinstance(count, int):
        return f"has no whole number of test inputs, but {excerpt(count)}"
    return Interval(entry["value"], entry["low"], entry["high"], count)


def _same_model(row: Mapping[str, Any], model: str, digest: str) -> _Finding:
    evaluated = row.get("digest")
    if not isinstance(evaluated, str) or not evaluated:
        return _Finding(False, f"{model}: the evaluation names no digest of this model.")
    if evaluated != digest:
        text = f"digest {evaluated[:16]}… was evaluated, {digest[:16]}… is to be promoted"
        return _Finding(False, f"{model}: {text}.")
    return _Finding(True, f"{model}: the evaluated model, digest {digest[:16]}…, is the one to promote.")


def _figures_keep(
    figures: Mapping[str, Interval | str], model: str, thresholds: Thresholds
) -> Iterator[_Finding]:
    for name, figure in figures.items():
        yield from _usable(model, name, figure, thresholds)
    sizes = [figure.n for figure in figures.values() if isinstance(figure, Interval)]
    if len(sizes) == len(figures) and min(sizes) >= thresholds.min_samples:
        text = (
            f"every figure rests on at least {min(sizes)} test inputs (min_samples {thresholds.min_samples})"
        )
        yield _Finding(True, f"{model}: {text}.")
    if isinstance(utility := figures["utility"], Interval):
        met, limit = utility.low >= thresholds.min_utility, thresholds.min_utility
        text = f"the lower end of utility {utility.low:.6g} {'reaches' if met else 'is below'}"
        yield _Finding(met, f"{model}: {text} min_utility {limit:g}.")
    if isinstance(loss := figures["clean_loss"], Interval):
        met, limit = loss.high <= thresholds.max_clean_loss, thresholds.max_clean_loss
        text = f"the upper end of clean_loss {loss.high:.6g} {'is within' if met else 'is above'}"
        yield _Finding(met, f"{model}: {text} max_clean_loss {limit:g}.")


def _usable(model: str, name: str, figure: Interval | str, thresholds: Thresholds) -> Iterator[_Finding]:
    """The fault of a figure by itself, if it has one."""
    if isinstance(figure, str):
        yield _Finding(False, f"{model}: {name} {figure}.")
    elif not figure.n >= thresholds.min_samples:
        text = f"{name} rests on {figure.n} test inputs, fewer than min_samples {thresholds.min_samples}"
        yield _Finding(False, f"{model}: {text}.")


def _figures_agree(
    figures: Mapping[str, Interval | str], model: str, before: Interval | str
) -> Iterator[_Finding]:
    """Faults of figures that are the difference of two others; ``before`` is of the undefended model."""
    for name, whole, part in (
        ("utility", figures["clean_accuracy"], figures["backdoor_success"]),
        ("clean_loss", before, figures["clean_accuracy"]),
    ):
        figure = figures[name]
        if isinstance(figure, str) or isinstance(whole, str) or isinstance(part, str):
            continue  # told already
        if figure.n != min(whole.n, part.n) or (name == "clean_loss" and whole.n != part.n):
            text = f"contradicts itself: it rests on {figure.n} test inputs, not on {whole.n} and {part.n}"
            yield _Finding(False, f"{model}: {name} {text}.")
        difference = whole.value - part.value
        if not abs(figure.value - difference) <= TOLERANCE:
            text = f"contradicts itself: {figure.value:.6g} is not {whole.value:.6g} − {part.value:.6g}"
            yield _Finding(False, f"{model}: {name} {text}.")


def _attack_took(report: Mapping[str, Any]) -> _Finding:
    attack = as_mapping(as_mapping(report).get("attack_took"))
    took, reason = attack.get("took"), _sentence(attack.get("reason"))
    if took is True:
        return _Finding(True, reason)
    if took is False:
        return _Finding(False, f"{reason} A low backdoor success then proves nothing.")
    return _Finding(False, f"The evaluation does not say whether the attack took, but {excerpt(took)}.")


def _attack_shows(models: Mapping[str, Any], thresholds: Thresholds) -> Iterator[_Finding]:
    """Faults of the figures behind a report's word that the attack took."""
    names = ("undefended", "control")
    figures = {name: _figure(models, name, "backdoor_success") for name in names}
    for name, figure in figures.items():
        if not as_mapping(models.get(name)).get("digest"):  # custody compares it with what was read
            yield _Finding(False, f"{name}: the evaluation names no digest of this model.")
        yield from _usable(name, "backdoor_success", figure, thresholds)
    planted, alone = figures.values()
    if isinstance(planted, Interval) and isinstance(alone, Interval) and not planted.low > alone.high:
        text = f"{planted.low:.6g}, is not above the upper end of the control's, {alone.high:.6g}"
        yield _Finding(False, f"The lower end of the undefended model's backdoor_success, {text}.")


def _word_kept(report: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[_Finding]:
    """Faults of what a report says of the attack and of the control, by its own figures and limits."""
    took = as_mapping(as_mapping(as_mapping(report).get("attack_details")).get("took"))
    limits = as_mapping(as_mapping(as_mapping(report).get("config")).get("limits"))
    planted, alone, clean, honest = (
        figure.value if isinstance(figure := _figure(models, model, name), Interval) else None
        for name in ("backdoor_success", "clean_accuracy")
        for model in ("undefended", "control")
    )
    cost = None if clean is None or honest is None else honest - clean
    for name, given, what, value, sign in (
        ("min_backdoor_success", took, "backdoor_success of the undefended model", planted, 1),
        ("max_clean_cost", took, "clean_accuracy of the control less the undefended model's", cost, -1),
        ("min_control_accuracy", limits, "clean_accuracy of the control", honest, 1),
        ("max_control_success", limits, "backdoor_success of the control", alone, -1),
    ):
        limit = given.get(name)
        if isinstance(limit, bool) or not isinstance(limit, (int, float)):
            yield _Finding(False, f"The evaluation names no {name}, but {excerpt(limit)}.")
        elif value is not None and not sign * value >= sign * limit - TOLERANCE:  # without one it was told
            text = f"contradicts itself: {what} is {value:.6g}, {name} {limit:g}"
            yield _Finding(False, f"The evaluation {text}.")


def _figure(models: Mapping[str, Any], model: str, name: str) -> Interval | str:
    return read_interval(as_mapping(models.get(model)).get(name), *RANGES[name])


def _checks_passed(report: Mapping[str, Any], model: str) -> Iterator[_Finding]:
    checks = as_mapping(report).get("checks")
    if not isinstance(checks, (list, tuple)) or not checks:
        yield _Finding(False, f"The evaluation lists no sanity checks, but {excerpt(checks)}.")
        return
    made = [as_mapping(check) for check in checks]
    of_others = [check for check in made if _fails_others_alone(check, model)]
    failed = [check for check in made if check.get("passed") is not True and check not in of_others]
    names = [check.get("name") for check in made]
    missing = [name for name in CHECKS if name not in names]
    if missing:
        yield _Finding(False, f"The evaluation does not list the sanity checks {', '.join(missing)}.")
    for check in failed:
        yield _Finding(
            False, f"Sanity check {excerpt(check.get('name'))} failed: {_sentence(check.get('message'))}"
        )
    if not failed and not missing:
        but = "".join(f", but for {excerpt(one['name'])} of {', '.join(one['models'])}" for one in of_others)
        yield _Finding(
            True, f"All sanity checks of the measurement passed ({len(made) - len(of_others)}){but}."
        )


def _fails_others_alone(check: Mapping[str, Any], model: str) -> bool:
    """Whether a check failed for models that are named, of which this is none."""
    models = check.get("models")
    if not isinstance(models, (list, tuple)) or not all(isinstance(one, str) for one in models):
        return False
    return check.get("passed") is False and bool(models) and model not in models


def _against(
    champion: Champion | None, version: str, replace: Literal["better", "always"]
) -> tuple[bool, str]:
    if champion is None:
        return True, "There is no champion to beat."
    if champion.version == version:
        return True, f"Version {version} is the champion already."
    if champion.same_model and champion.comparable:
        return True, f"The champion, version {champion.version}, is the same network, measured before."
    if replace == "always":
        return (
            True,
            f"replace_champion is 'always': version {champion.version} gives way without a comparison.",
        )
    always = "set replace_champion to 'always' to replace it"
    if not champion.comparable:
        text = f"The champion, version {champion.version}, was measured on other data or with another trigger"
        return False, f"{text}: {always}."
    gain, beside = champion.gain, f"the champion's, version {champion.version}"
    if not isinstance(gain, Interval):
        return False, f"Utility cannot be compared with {beside}: {gain or 'it was not'}; or {always}."
    met = gain.low > 0
    value, low, high = (f"{round(x, 4) + 0.0:+.4f}" for x in (gain.value, gain.low, gain.high))  # never -0.0
    told = f"{value} ({low} to {high})"
    verb = "is clearly above" if met else "is not clearly above"
    return met, f"Utility {verb} {beside}: {told}, input by input."


def _sentence(value: object) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return f"{text.rstrip('.')}." if text else "no reason given."
