"""Confidence intervals for rates, for their differences and for the relative drop of a rate.

A rate gets the Wilson interval. A difference and a relative drop get theirs from the Wilson limits of
the two rates (MOVER, the method of variance estimates recovery). A bootstrap would collapse to a
point where every input is right, or every one wrong — the usual outcome of a good defence — and so
claim certainty from twenty inputs. MOVER keeps there the width that Wilson gives, needs no random
numbers, and holds its level in small samples.

Wilson's coverage is 95 % on average over the rate and dips to 84 % at single rates very near to 0 or 1
(Brown, Cai and DasGupta 2001, Stat. Sci. 16:101). Every miss there is on the side of the nearer end of
[0, 1]; the other limit, the one that a gate should use, covers more than its 97.5 %.

Inputs of one group (a speaker, a video, an image with several signs) are alike, and tell less than as many
independent ones. Counts are divided by the design effect before Wilson's formula sees them (Rao and Scott
1992), and where groups are few by the square of Student's quantile over the normal one (Korn and Graubard
1998). Where every input is a group of its own nothing changes. With a dozen groups whose inputs are fairly
alike (an intraclass correlation of .3), or groups of very different sizes, the intervals of rates beyond .9
still cover but 82 to 95 %: errors that are rare do not show that they come together. Where they come as whole
groups (a correlation of 1) those of a rate of .05 cover 42 % with 12 groups and 71 % with 30.

Sources:
    Wilson (1927), J. Am. Stat. Assoc. 22:209.
    Newcombe (1998a, b, c), Stat. Med. 17:857 (one rate), 17:873 (two rates), 17:2635 (paired rates).
    Zou and Donner (2008), Stat. Med. 27:1693 (MOVER for a difference).
    Donner and Zou (2012), Stat. Methods Med. Res. 21:347 (MOVER for a ratio).
    Rao and Scott (1992), Biometrics 48:577 (rates of groups).
    Kish (1965), Survey Sampling (groups of unequal sizes).
    Korn and Graubard (1998), Survey Methodology 24:193 (rates of few groups).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from fineprune.errors import DataError

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # of 1 to 9 degrees of freedom

Groups = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Influence = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval: ``low <= value <= high``, from ``n`` inputs."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: int, n: int, *, effect: float = 1.0, confidence: float = CONFIDENCE) -> Estimate:
    """The share ``successes / n`` with Wilson's score interval, in [0, 1].

    Args:
        successes: how many.
        n: of how many.
        effect: how many inputs tell as much as one independent one, at least 1.
        confidence: of the interval.

    Raises:
        DataError: ``n`` is not positive, or ``successes`` is not in 0…n.
    """
    if n < 1:
        raise DataError(f"a rate needs at least one input, found {n}")
    if not 0 <= successes <= n:
        raise DataError(f"a rate over {n} inputs: expected 0…{n} successes, found {successes}")
    share, size, z = successes / n, n / effect, NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * math.sqrt(share * (1 - share) / size + z**2 / (4 * size**2)) / (1 + z**2 / size)
    return _estimate(share, max(0.0, centre - half), min(1.0, centre + half), n)


def rate(flags: Flags, groups: Groups, *, otherwise: float | None = None) -> Estimate:
    """The share of true entries of ``flags`` with Wilson's interval, as wide as its groups ask for.

    Args:
        flags: (n,) bool, the outcomes.
        groups: (n,) int, what each input belongs to.
        otherwise: the design effect to assume where all outcomes are the same, so that they show none; with
            None, and wherever all inputs are of one group, the inputs of a group count as one.

    Raises:
        DataError: ``flags`` is empty.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    shown = design_effect(flags, groups) or (otherwise if len(sizes) > 1 else None)
    effect = shown or len(flags) / max(1, len(sizes))
    if 1 < len(sizes) < len(flags):
        # So many groups of equal size tell as much (Kish 1965).
        alike = len(flags) ** 2 // int(np.square(sizes).sum())
        effect *= (student(max(1, alike - 1)) / _Z) ** 2
    return wilson(int(np.count_nonzero(flags)), len(flags), effect=effect)


def design_effect(flags: Flags, groups: Groups) -> float | None:
    """By how much inputs of one group, being alike, widen the variance of a share: 1 or more.

    The variance that the groups show when each is left out in turn, over that of independent inputs (Rao and
    Scott 1992; the jackknife, since a large group draws the mean to itself); None where all outcomes are the
    same, or all inputs of one group.

    Args:
        flags: (n,) bool, the outcomes.
        groups: (n,) int, what each input belongs to.
    """
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    count = len(sizes)
    if count == len(flags):
        return 1.0
    residuals = flags - flags.mean()
    alone = float(np.square(residuals).sum())
    if not alone or count < 2:
        return None
    left_out = np.bincount(member, residuals) / (1 - sizes / len(flags))
    return max(1.0, float(np.square(left_out).sum()) * (count - 1) / count / alone)


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t with ``freedom`` ≥ 1 degrees of freedom, to three digits."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    # Cornish and Fisher's expansion around the normal quantile.
    first = (_Z**3 + _Z) / 4
    second = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    third = (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384
    return _Z + first / freedom + second / freedom**2 + third / freedom**3


def correlation(first: Flags | Influence, second: Flags | Influence, groups: Groups) -> float:
    """The correlation of two means over the same inputs, in [-1, 1]; 0 where one of them does not vary.

    It is that of what each input adds, or of what each group adds, whichever is less: two models may find the
    same inputs hard, but other speakers. That of two outcomes by input is the phi coefficient, drawn towards
    zero by Newcombe's continuity correction when positive (1998c, method 10): perfect agreement in a few
    inputs does not prove that two rates are equal.

    Args:
        first: (n,) bool or float64, the outcomes, or what each input adds to a figure, times n.
        second: the same of the other.
        groups: (n,) int, what each input belongs to.

    Raises:
        DataError: they differ in length.
    """
    if not first.shape == second.shape == groups.shape:
        found = f"{len(first)} and {len(second)}, {len(groups)} groups"
        raise DataError(f"paired outcomes: expected one length, found {found}")
    _, member = np.unique(groups, return_inverse=True)
    one, other = first - first.mean(), second - second.mean()
    sums = [np.bincount(member, each).astype(float) for each in (one, other)]
    return min(_cosine(sums[0], sums[1]), _cosine(one, other, correction=0.5))


def difference(first: Estimate, second: Estimate, *, correlation: float) -> Estimate:
    """``first - second`` with its MOVER interval (Zou and Donner 2008), in [-1, 1] for rates.

    With Wilson's limits this is Newcombe's method 10, for unpaired rates (``correlation=0``) and,
    with :func:`correlation`, for paired ones.

    Args:
        first: an estimate.
        second: another one, at the same confidence level.
        correlation: of the two estimates, in [-1, 1].
    """
    value = first.value - second.value
    down = _combine(first.value - first.low, second.high - second.value, correlation)
    up = _combine(first.high - first.value, second.value - second.low, correlation)
    return _estimate(value, value - down, value + up, min(first.n, second.n))


def relative_drop(before: Estimate, after: Estimate, *, correlation: float) -> Estimate | None:
    """``1 - after / before``, at most 1 and negative for a gain, with its MOVER interval.

    Its ends are those ratios at which the interval of ``after - ratio * before`` touches zero (Donner
    and Zou 2012).

    Args:
        before: a rate.
        after: another one, at the same confidence level.
        correlation: of the two estimates, in [-1, 1].

    Returns:
        None where ``before`` is zero: a share of nothing is not defined.
    """
    if before.value <= 0:
        return None
    product = before.value * after.value
    middle = product - correlation * (after.value - after.low) * (before.high - before.value)
    low = _lower_root(_span(before.value, before.high), middle, _span(after.value, after.low))
    middle = product - correlation * (after.high - after.value) * (before.value - before.low)
    high = _upper_root(_span(before.value, before.low), middle, _span(after.value, after.high))
    return _estimate(1 - after.value / before.value, 1 - high, 1 - low, min(before.n, after.n))


def drop_correlation(before: Estimate, after: Estimate, *, correlation: float) -> float:
    """The correlation of ``before`` with ``1 - after / before``, in [-1, 1], by the delta method.

    The spreads of the two rates are taken from the widths of their intervals, which are never zero.
    """
    if before.value <= 0:
        return 0.0
    spread, weighted = after.high - after.low, after.value / before.value * (before.high - before.low)
    total = _combine(spread, weighted, correlation)
    return max(-1.0, min(1.0, (weighted - correlation * spread) / total)) if total > 0 else 0.0


def clip(estimate: Estimate, low: float, high: float) -> Estimate:
    """The estimate of a number that is clipped to ``low``…``high``: value and both ends clipped."""
    value, least, most = (min(high, max(low, x)) for x in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, least, most, estimate.n)


def smaller(first: Estimate, second: Estimate) -> Estimate:
    """The estimate of the smaller of two numbers: the smaller value, and the smaller of the ends."""
    return Estimate(
        min(first.value, second.value),
        min(first.low, second.low),
        min(first.high, second.high),
        min(first.n, second.n),
    )


def _estimate(value: float, low: float, high: float, n: int) -> Estimate:
    """The estimate, with rounding errors kept from putting the value outside its interval."""
    return Estimate(value, min(low, value), max(high, value), n)


def _cosine(first: Influence, second: Influence, correction: float = 0.0) -> float:
    """The cosine of two (n,) vectors of deviations; ``correction`` draws a positive product towards zero."""
    together, spread = float(first @ second), math.sqrt(float(first @ first) * float(second @ second))
    if together > 0:
        together = max(0.0, together - correction)
    # What is below comes from rounding: sums of deviations that do not vary are not quite zero.
    return max(-1.0, min(1.0, together / spread)) if spread > 1e-15 else 0.0


def _combine(one: float, other: float, correlation: float) -> float:
    """The length of the sum of two deviations of the given correlation and opposite sign."""
    return math.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other))


def _span(value: float, limit: float) -> float:
    """``value² - (value - limit)²``, negative where the limit is more than twice the value."""
    return limit * (2 * value - limit)


def _lower_root(square: float, middle: float, constant: float) -> float:
    """The lower root of ``square·x² - 2·middle·x + constant``, in the form that allows ``square <= 0``."""
    denominator = middle + math.sqrt(max(0.0, middle**2 - square * constant))
    return constant / denominator if denominator > 0 else 0.0


def _upper_root(square: float, middle: float, constant: float) -> float:
    """The upper root of the same, for ``square > 0``."""
    return (middle + math.sqrt(max(0.0, middle**2 - square * constant))) / square
