"""By how much one model is of more use than another, from what became of the same test inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from fineprune.errors import DataError, excerpt
from fineprune.evaluation.intervals import Estimate, Influence, correlation, difference
from fineprune.evaluation.metrics import influence, measure, unclipped_utility
from fineprune.evaluation.outcomes import Outcomes, from_report
from fineprune.files import as_mapping
from fineprune.gate import TOLERANCE


def utility_gain(ours: Outcomes, theirs: Outcomes) -> Estimate | None:
    """Our utility minus theirs, in [-2, 2], with its 95 % interval; None where one of the two is undefined.

    A MOVER difference (Zou and Donner 2008), with the correlation of what each input adds to either: two
    models stumble over the same inputs. Of an untargeted attack the interval holds that of the utilities
    before they are clipped too.

    Raises:
        DataError: the two are not of the same inputs.
    """
    same = np.array_equal(ours.eligible, theirs.eligible) and np.array_equal(ours.groups, theirs.groups)
    if not same or (ours.fooled is None) != (theirs.fooled is None):
        counts = f"{len(ours.eligible)} and {len(theirs.eligible)}"
        raise DataError(f"outcomes: expected those of the same test inputs, found others ({counts})")
    pairs = [
        (measure(ours, before=None).utility, measure(theirs, before=None).utility),
        (unclipped_utility(ours), unclipped_utility(theirs)),
    ]
    defined = [(first, second) for first, second in pairs if first is not None and second is not None]
    if len(defined) < len(pairs):
        return None
    shared = correlation(utility_influence(ours), utility_influence(theirs), ours.groups)
    gain, unclipped = (difference(first, second, correlation=shared) for first, second in defined)
    low, high = min(gain.low, unclipped.low), max(gain.high, unclipped.high)
    return replace(gain, low=max(-2.0, low), high=min(2.0, high))


def utility_influence(said: Outcomes) -> Influence:
    """(N,) float64: the influence of each input on unclipped utility, times N and up to a constant; on an
    untargeted success, which is a ratio, by the delta method.
    """
    some = said.eligible
    if said.fooled is not None:
        return said.right - influence(said.fooled, some)
    clean, triggered = (float(flags[some].mean()) for flags in (said.right, said.kept))
    right, kept = (influence(flags, some) for flags in (said.right, said.kept))
    return said.right + kept / clean - right * triggered / clean**2


def check_figures(report: Mapping[str, Any], model: str) -> None:
    """Refuse a report of which the figures of a model do not follow from the outcomes that it keeps.

    Raises:
        DataError: the outcomes of the model or of the undefended one are missing or malformed, or give
            another value, another interval or another number of inputs.
    """
    before = from_report(report.get("outcomes"), "undefended")
    counted = measure(outcomes_behind(report, model), before=before)
    row = as_mapping(as_mapping(report.get("models")).get(model))
    for name in ("clean_accuracy", "backdoor_success", "utility", "clean_loss"):
        told, found = as_mapping(row.get(name)), getattr(counted, name)
        for part, value in ({} if found is None else asdict(found)).items():
            if not _is_near(told.get(part), value):
                raise DataError(
                    f"outcomes: {model}.{name}.{part}: expected {excerpt(told.get(part))}, as reported, "
                    f"found {value:.6g}"
                )


def outcomes_behind(report: Mapping[str, Any], model: str) -> Outcomes:
    """The outcomes that an evaluation's report keeps of a model; its content is not trusted.

    Raises:
        DataError: they are missing or malformed, or do not give the figures that the report has of the model.
    """
    said = from_report(report.get("outcomes"), model)
    row, counted = as_mapping(as_mapping(report.get("models")).get(model)), measure(said, before=None)
    for name in ("clean_accuracy", "backdoor_success"):
        told, found = as_mapping(row.get(name)).get("value"), getattr(counted, name)
        value = None if found is None else found.value
        if told != value:
            raise DataError(f"outcomes: {model}.{name}: expected {excerpt(told)}, as reported, found {value}")
    return said


def _is_near(told: object, found: float) -> bool:
    """Whether it is the number found, but for the order of sums, which is another machine's."""
    return isinstance(told, (int, float)) and abs(told - found) <= TOLERANCE
