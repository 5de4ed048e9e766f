"""By how much one model is of more use than another, from what became of the same test inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fineprune.errors import DataError, excerpt
from fineprune.evaluation.intervals import Estimate, difference
from fineprune.evaluation.metrics import measure
from fineprune.evaluation.outcomes import Outcomes, from_report
from fineprune.files import as_mapping


def utility_gain(ours: Outcomes, theirs: Outcomes) -> Estimate | None:
    """Our utility minus theirs, in [-2, 2], with its 95 % interval; None where one of the two is undefined.

    A MOVER difference (Zou and Donner 2008). Two models stumble over the same inputs, so the correlation of
    their utilities is that of what each input adds to either, drawn towards zero by Newcombe's continuity
    correction (1998c): agreement in a few inputs does not prove that two models are alike. Where inputs come
    in groups the interval is too wide, for what the groups have in common cancels out.

    Raises:
        DataError: the two are not of the same inputs.
    """
    same = np.array_equal(ours.eligible, theirs.eligible) and np.array_equal(ours.groups, theirs.groups)
    if not same or (ours.fooled is None) != (theirs.fooled is None):
        counts = f"{len(ours.eligible)} and {len(theirs.eligible)}"
        raise DataError(f"outcomes: expected those of the same test inputs, found others ({counts})")
    first, second = (measure(one, before=None).utility for one in (ours, theirs))
    if first is None or second is None:
        return None
    return difference(first, second, correlation=_correlation(_shares(ours), _shares(theirs)))


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


def _shares(said: Outcomes) -> npt.NDArray[np.float64]:
    """(N,) what each input adds to utility, times N; of the relative drop by the delta method."""
    weight = said.eligible * (len(said.eligible) / np.count_nonzero(said.eligible))
    if said.fooled is not None:
        return said.right - weight * said.fooled
    clean, triggered = (float(flags[said.eligible].mean()) for flags in (said.right, said.kept))
    if triggered >= clean:  # the success is clipped to zero there
        return said.right.astype(float)
    return said.right + weight * (said.kept / clean - said.right * triggered / clean**2)


def _correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    spread = float(first.std() * second.std())
    together = float(np.mean((first - first.mean()) * (second - second.mean())))
    if together > 0:
        together = max(0.0, together - 1 / (2 * len(first)))
    return max(-1.0, min(1.0, together / spread)) if spread > 0 else 0.0
