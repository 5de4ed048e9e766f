"""The mean over seeds: both kinds of chance are in its interval."""

import math

import pytest

from tables.mean import half_width, mean_of

from .reports import estimate


def test_one_seed_has_its_own_interval() -> None:
    mean = mean_of([{"value": 0.5, "low": 0.4, "high": 0.7}])
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.5, 0.4, 0.7))
    assert mean.between is None


def test_three_seeds_without_intervals_have_students() -> None:
    # 0.1, 0.2, 0.3: standard deviation 0.1, so 4.303 × 0.1 / √3.
    mean = mean_of([estimate(value) for value in (0.1, 0.2, 0.3)], bounds=(-1, 1))
    half = 4.303 * 0.1 / math.sqrt(3)
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half))


def test_seeds_that_agree_keep_the_width_of_their_own_intervals() -> None:
    mean = mean_of([{"value": 0.0, "low": 0.0, "high": 0.03}] * 3)
    assert (mean.low, mean.high, mean.between) == pytest.approx((0.0, 0.03, 0.0))


def test_the_two_kinds_of_chance_are_added_in_quadrature_on_each_side() -> None:
    # Values 0 and 2: standard deviation √2, so Student's half-width is 12.706 × √2 / √2.
    mean = mean_of([{"value": 0, "low": -5, "high": 0}, {"value": 2, "low": -3, "high": 2}], bounds=(-99, 99))
    assert mean.between == pytest.approx(12.706)
    assert mean.within == (5, 0)
    assert mean.low == pytest.approx(1 - math.hypot(12.706, 5))
    assert mean.high == pytest.approx(1 + 12.706)


def test_an_interval_stays_within_what_is_possible() -> None:
    mean = mean_of([estimate(value) for value in (0.9, 1.0, 1.0)])
    assert mean.high == 1.0
    assert mean.low < 0.9
    assert mean_of([estimate(value) for value in (0.1, 0.0, 0.0)]).low == 0.0


def test_many_seeds_have_students_factor_too() -> None:
    expected = 2.0227 * math.sqrt(40 * 0.25 / 39) / math.sqrt(40)
    assert half_width([0.0, 1.0] * 20) == pytest.approx(expected, rel=1e-4)
