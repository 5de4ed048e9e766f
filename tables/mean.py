"""The mean of an estimate over seeds, with an interval that counts both kinds of chance.

Another seed would train other networks: that spread shows in the seeds' values, and Student's interval of
their mean says how far it carries. Other test inputs would move every seed's value the same way: the seeds
share the test split, so that their own intervals do not shrink by averaging. The two are independent, and
their half-widths are added in quadrature, each side for itself, as MOVER does (Zou and Donner 2008). So the
interval stays open where all seeds agree, as they do at a success of zero. With one seed nothing is known of
the first kind: that interval shows the second alone, and whoever prints it has to say so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fineprune.evaluation.intervals import student


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: the mean.
        low, high: its 95 % interval, both kinds of chance together.
        between: half-width of Student's interval over the seeds; None for a single seed.
        within: how far the seeds' own intervals reach down and up, on average.
    """

    value: float
    low: float
    high: float
    between: float | None
    within: tuple[float, float]


def mean_of(estimates: Sequence[Mapping[str, float]], bounds: tuple[float, float] = (0.0, 1.0)) -> Mean:
    """The mean of one estimate per seed.

    Args:
        estimates: ``{"value", "low", "high"}`` of each seed, one at least.
        bounds: what the quantity cannot leave.
    """
    values = [estimate["value"] for estimate in estimates]
    value = statistics.fmean(values)
    down = value - statistics.fmean(estimate["low"] for estimate in estimates)
    up = statistics.fmean(estimate["high"] for estimate in estimates) - value
    between = half_width(values)
    low, high = (value + sign * math.hypot(between or 0.0, side) for sign, side in ((-1, down), (1, up)))
    return Mean(value, max(bounds[0], low), min(bounds[1], high), between, (down, up))


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of Student's 95 % interval of the mean; None for a single value."""
    n = len(values)
    if n < 2:
        return None
    return student(n - 1) * statistics.stdev(values) / math.sqrt(n)
