from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineprune.errors import DataError
from fineprune.evaluation.intervals import (
    Estimate,
    clip,
    correlation,
    design_effect,
    difference,
    drop_correlation,
    rate,
    relative_drop,
    smaller,
    student,
    wilson,
)

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
correlations = st.floats(-1, 1)


def alone(flags):
    """The rate of inputs of which each is a group of its own."""
    return rate(flags, np.arange(len(flags)))


def paired(both, only_first, only_second, neither):
    cells = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], cells), np.repeat([True, False, True, False], cells)


def phi(first, second):
    """Their correlation where each input is a group of its own."""
    return correlation(first, second, np.arange(len(first)))


def paired_difference(*cells):
    first, second = paired(*cells)
    return difference(
        alone(first),
        alone(second),
        correlation=phi(first, second),
    )


def exact_coverage(n, p):
    """Probability that Wilson's interval holds p, that its lower end does, and that its upper end does."""
    estimates = [wilson(k, n) for k in range(n + 1)]
    chance = np.array([comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])
    low = np.array([estimate.low <= p for estimate in estimates])
    high = np.array([p <= estimate.high for estimate in estimates])
    return chance[low & high].sum(), chance[low].sum(), chance[high].sum()


class TestWilson:
    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
    )
    def test_gives_the_published_limits(self, successes, n, low, high):
        estimate = wilson(successes, n)  # Newcombe 1998a
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)

    def test_of_none_right_is_z_squared_over_n_plus_z_squared(self):
        assert wilson(0, 100).high == pytest.approx(1.959964**2 / (100 + 1.959964**2), abs=1e-6)

    @given(counts)
    def test_holds_its_value_and_stays_in_range(self, count):
        estimate = wilson(*count)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high

    @given(counts)
    def test_mirrors_successes_and_failures(self, count):
        k, n = count
        right, wrong = wilson(k, n), wilson(n - k, n)
        assert (right.low, right.high) == pytest.approx((1 - wrong.high, 1 - wrong.low))

    @given(counts, st.integers(2, 9))
    def test_shrinks_with_more_inputs(self, count, times):
        k, n = count
        few, many = wilson(k, n), wilson(times * k, times * n)
        assert many.high - many.low < few.high - few.low

    @given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
    def test_rises_with_each_success(self, count):
        k, n = count
        less, more = wilson(k, n), wilson(k + 1, n)
        assert less.low < more.low
        assert less.high < more.high

    @given(counts)
    def test_is_wider_at_higher_confidence(self, count):
        narrow, wide = wilson(*count, confidence=0.8), wilson(*count, confidence=0.99)
        assert wide.low <= narrow.low
        assert wide.high >= narrow.high
        assert wide.high - wide.low > narrow.high - narrow.low

    @pytest.mark.parametrize("n", [20, 50, 100, 500])
    def test_covers_95_percent_on_average(self, n):
        assert np.mean([exact_coverage(n, p)[0] for p in np.linspace(0.0025, 0.9975, 100)]) >= 0.945

    @pytest.mark.parametrize("n", [20, 50, 100, 500])
    @pytest.mark.parametrize("p", [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5])
    def test_end_that_a_gate_uses_covers_its_97_percent(self, n, p):
        assert exact_coverage(n, p)[2] >= 0.965
        assert exact_coverage(n, 1 - p)[1] >= 0.965
        assert exact_coverage(n, p)[0] >= 0.9

    @pytest.mark.parametrize("n", [20, 100, 1000])
    def test_dips_to_84_percent_outwards_alone(self, n):
        both, _, high = exact_coverage(n, 0.1765 / n)
        assert both == pytest.approx(0.838, abs=0.001)
        assert high >= 0.999

    @pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
    def test_refuses_impossible_counts(self, successes, n):
        with pytest.raises(DataError):
            wilson(successes, n)


class TestDifference:
    @pytest.mark.parametrize(
        ("first", "second", "low", "high"),
        [
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((6, 7), (2, 7), 0.0582, 0.8062),
            ((5, 56), (0, 29), -0.0381, 0.1926),
            ((0, 10), (0, 20), -0.1611, 0.2775),
            ((10, 10), (0, 20), 0.6791, 1.0),
            ((10, 10), (0, 10), 0.6075, 1.0),
        ],
    )
    def test_gives_the_published_unpaired_limits(self, first, second, low, high):
        estimate = difference(wilson(*first), wilson(*second), correlation=0)  # Newcombe 1998b, method 10
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)

    @pytest.mark.parametrize(
        ("cells", "low", "high", "digits"),
        [
            ((14, 5, 0, 22), 0.011, 0.226, 3),  # Altman et al. 2000, Table 6.2
            ((59, 6, 16, 80), -0.1186, -0.0046, 4),  # Cavo et al. 2012, in Fagerland et al. 2017, ch. 8
        ],
    )
    def test_gives_the_published_paired_limits(self, cells, low, high, digits):
        estimate = paired_difference(*cells)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.6 * 10**-digits)

    def test_is_not_a_point_where_every_input_is_right_under_both(self):
        estimate = paired_difference(20, 0, 0, 0)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0, -0.1611, 0.1611), abs=5e-5)

    def test_is_not_a_point_where_both_agree_on_every_input(self):
        estimate = paired_difference(15, 0, 0, 5)
        assert estimate.low < -0.05
        assert estimate.high > 0.05

    @given(counts, counts, correlations)
    def test_holds_its_value_and_stays_in_range(self, first, second, rho):
        estimate = difference(wilson(*first), wilson(*second), correlation=rho)
        assert -1 - 1e-12 <= estimate.low <= estimate.value <= estimate.high <= 1 + 1e-12

    @given(counts, counts, correlations)
    def test_changes_sign_with_the_order(self, first, second, rho):
        one, other = wilson(*first), wilson(*second)
        forth, back = difference(one, other, correlation=rho), difference(other, one, correlation=rho)
        assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))

    def test_is_from_as_many_inputs_as_the_smaller_of_the_two(self):
        one, other = wilson(9, 10), wilson(3, 20)
        assert difference(one, other, correlation=0).n == difference(other, one, correlation=0).n == 10

    def test_of_mirrored_rates_of_one_mind_is_a_point(self):
        found = difference(wilson(2, 7), wilson(5, 7), correlation=1)
        assert (found.low, found.high) == pytest.approx((found.value, found.value), abs=1e-6)

    @given(counts, counts)
    def test_shrinks_as_correlation_rises(self, first, second):
        widths = []
        for rho in (-0.9, 0, 0.9):
            estimate = difference(wilson(*first), wilson(*second), correlation=rho)
            widths.append(estimate.high - estimate.low)
        assert widths[0] >= widths[1] >= widths[2]


class TestCorrelation:
    def test_of_a_hand_made_table_is_corrected_towards_zero(self):
        # (20·16 - 12·2 - 50/2) / √(32·18·22·28)
        assert phi(*paired(20, 12, 2, 16)) == pytest.approx(271 / 354816**0.5)

    def test_is_zero_where_the_correction_exceeds_it(self):
        assert phi(*paired(1, 1, 1, 2)) == 0

    def test_is_not_corrected_when_negative(self):
        assert phi(*paired(0, 10, 10, 0)) == -1

    def test_is_zero_where_nothing_varies(self):
        assert phi(*paired(9, 0, 0, 0)) == 0

    def test_refuses_outcomes_of_different_inputs(self):
        with pytest.raises(DataError, match="found 2 and 3, 3 groups"):
            correlation(np.ones(2, bool), np.ones(3, bool), np.arange(3))
        with pytest.raises(DataError, match="found 3 and 3, 2 groups"):
            correlation(np.ones(3, bool), np.ones(3, bool), np.arange(2))

    def test_is_that_of_the_groups_where_they_have_less_in_common(self):
        first, second = np.array([1, 1, 0, 0, 1, 1], bool), np.array([1, 1, 0, 0, 0, 0], bool)
        assert phi(first, second) == pytest.approx(0.125)
        assert correlation(first, second, np.array([4, 4, 7, 7, 9, 9])) == pytest.approx(0.125)
        # The sums of the deviations are -1/3, -1/3, 2/3 and 1/3, 1/3, -2/3.
        assert correlation(first, second, np.array([4, 7, 4, 7, 9, 9])) == pytest.approx(-1)

    def test_is_not_corrected_where_it_is_that_of_the_groups(self):
        groups, hard = np.arange(200) % 10, np.random.default_rng(0).random(200) < 0.3
        first, second = (hard | np.isin(groups, (4, 5, own)) for own in (2, 7))
        sums = [np.bincount(groups, flags) for flags in (first, second)]
        found = correlation(first, second, groups)
        assert 0 < found < phi(first, second)
        assert found == pytest.approx(np.corrcoef(*sums)[0, 1])

    def test_is_not_above_zero_where_all_groups_are_alike(self):
        first = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1] * 4, bool)
        groups = np.repeat(np.arange(12), 3)
        assert phi(first, first) > 0.8
        assert correlation(first, first, groups) == 0

    def test_of_floats_is_pearsons_with_the_correction(self):
        first, second = np.array([0.5, 3.0, -1.0, 4.0]), np.array([1.0, 2.5, 0.0, 2.0])
        one, other = first - first.mean(), second - second.mean()
        expected = (one @ other - 0.5) / (one @ one * (other @ other)) ** 0.5
        assert phi(first, second) == pytest.approx(expected)


class TestRelativeDrop:
    def test_gives_the_published_paired_limits(self):
        first, second = paired(59, 6, 16, 80)
        phi = (59 * 80 - 6 * 16) / (65 * 96 * 75 * 86) ** 0.5
        drop = relative_drop(alone(second), alone(first), correlation=phi)
        # Fagerland et al. 2017, ch. 8: MOVER Wilson for the ratio of paired probabilities.
        assert (1 - drop.high, 1 - drop.value, 1 - drop.low) == pytest.approx(
            (0.7592, 0.8667, 0.9866), abs=5e-5
        )

    @given(counts, counts, correlations)
    def test_ends_where_the_weighted_difference_touches_zero(self, before, after, rho):
        one, other = wilson(*before), wilson(*after)
        drop = relative_drop(one, other, correlation=rho)
        if drop is None or drop.value == 1:
            return
        for ratio, upper in ((1 - drop.high, True), (1 - drop.low, False)):
            weighted = Estimate(ratio * one.value, ratio * one.low, ratio * one.high, one.n)
            touching = difference(other, weighted, correlation=rho)
            assert (touching.low if upper else touching.high) == pytest.approx(0, abs=1e-6 * max(1, ratio))

    def test_is_from_as_many_inputs_as_the_smaller_of_the_two(self):
        one, other = wilson(9, 10), wilson(3, 20)
        assert relative_drop(one, other, correlation=0).n == relative_drop(other, one, correlation=0).n == 10

    def test_is_undefined_where_nothing_was_right_before(self):
        assert relative_drop(wilson(0, 50), wilson(3, 50), correlation=0) is None

    def test_of_everything_lost_is_one_and_no_point(self):
        drop = relative_drop(wilson(20, 20), wilson(0, 20), correlation=0)
        assert (drop.value, drop.high) == (1, 1)
        assert drop.low < 0.9

    def test_of_nothing_lost_is_zero_and_no_point(self):
        drop = relative_drop(wilson(20, 20), wilson(20, 20), correlation=0)
        assert drop.value == 0
        assert drop.low < -0.1
        assert drop.high > 0.1

    def test_of_equal_rates_of_one_mind_is_a_point(self):
        drop = relative_drop(wilson(1, 2), wilson(1, 2), correlation=1)
        assert (drop.low, drop.value, drop.high) == pytest.approx((0, 0, 0), abs=1e-6)

    @given(counts, counts, correlations)
    def test_holds_its_value(self, before, after, rho):
        drop = relative_drop(wilson(*before), wilson(*after), correlation=rho)
        assert drop is None or drop.low <= drop.value <= drop.high <= 1


class TestDropCorrelation:
    def test_matches_simulation(self):
        random = np.random.default_rng(3)
        cells = random.multinomial(400, [0.5, 0.3, 0.05, 0.15], size=20_000)
        before, after = (cells[:, 0] + cells[:, 1]) / 400, (cells[:, 0] + cells[:, 2]) / 400
        phi = (0.5 * 0.15 - 0.3 * 0.05) / (0.8 * 0.2 * 0.55 * 0.45) ** 0.5
        expected = np.corrcoef(before, 1 - after / before)[0, 1]
        found = drop_correlation(wilson(320, 400), wilson(220, 400), correlation=phi)
        assert found == pytest.approx(expected, abs=0.03)

    def test_is_zero_where_nothing_was_right_before(self):
        assert drop_correlation(wilson(0, 50), wilson(3, 50), correlation=0.5) == 0

    def test_of_rates_of_one_mind_is_one_or_nothing(self):
        assert drop_correlation(wilson(1, 2), wilson(2, 2), correlation=1) == 1
        assert drop_correlation(wilson(1, 2), wilson(1, 2), correlation=1) == 0

    @given(counts, counts, correlations)
    def test_is_a_correlation(self, before, after, rho):
        assert -1 <= drop_correlation(wilson(*before), wilson(*after), correlation=rho) <= 1


def test_clip_moves_value_and_ends_into_range():
    assert clip(Estimate(-0.1, -0.3, 0.2, 9), 0, 1) == Estimate(0, 0, 0.2, 9)
    assert clip(Estimate(1.1, 0.7, 1.3, 9), 0, 1) == Estimate(1, 0.7, 1, 9)


def test_smaller_takes_the_smaller_of_each():
    assert smaller(Estimate(0.5, 0.2, 0.9, 9), Estimate(0.6, 0.1, 0.7, 5)) == Estimate(0.5, 0.1, 0.7, 5)


def simulated_coverage(n, p, q, agreement, *, draws=1000):
    """How often the paired difference and the drop hold the truth; and the ends that a gate uses."""
    independent, most = p * q, min(p, q)
    both = independent + agreement * (most - independent)
    cells, repeats = np.unique(
        np.random.default_rng(7).multinomial(
            n, np.clip([both, p - both, q - both, 1 - p - q + both], 0, 1), draws
        ),
        axis=0,
        return_counts=True,
    )
    held = np.zeros(3)
    for cell, times in zip(cells, repeats, strict=True):
        first, second = paired(*cell)
        rho = phi(first, second)
        gap = difference(alone(first), alone(second), correlation=rho)
        drop = relative_drop(alone(first), alone(second), correlation=rho)
        inside = gap.low <= p - q + 1e-12 and p - q <= gap.high + 1e-12
        dropped = drop is None or (drop.low <= 1 - q / p + 1e-12 and 1 - q / p <= drop.high + 1e-12)
        held += times * np.array([inside, gap.low <= p - q + 1e-12, dropped])
    return held / draws


@pytest.mark.parametrize("n", [20, 50, 200, 500])
def test_paired_intervals_hold_the_truth(n):
    grid = list(product((0.3, 0.8, 0.95, 1.0), (0.0, 0.02, 0.3, 0.6, 0.95), (0.0, 0.7)))
    coverage = np.array([simulated_coverage(n, *point) for point in grid])
    assert coverage.mean(axis=0).min() >= 0.95
    assert coverage.min() >= 0.9
    moderate = np.array([q >= 0.3 and p < 1 for p, q, _ in grid])
    assert coverage[moderate].min() >= 0.93
    good = np.array([p >= 0.8 and q <= 0.3 for p, q, _ in grid])  # where a gate passes on cl - bd
    assert coverage[good, 1].min() >= 0.96


class TestGroups:
    def test_inputs_of_their_own_are_counted_as_they_are(self):
        flags = np.arange(40) % 3 > 0
        assert alone(flags) == wilson(26, 40)
        assert design_effect(flags, np.arange(40)) == 1

    def test_design_effect_by_hand(self):
        twins = np.array([0, 0, 1, 1])
        assert design_effect(np.array([True, True, False, False]), twins) == 4  # 2, and 2 / 1 for two groups
        assert design_effect(np.array([True, False, True, False]), twins) == 1  # never below
        # Residuals of 2/3 and -2/3, left out of all others: 2 and -1; 5 / 2 over 2/3.
        assert design_effect(np.array([True, True, False]), np.array([7, 7, -2])) == pytest.approx(15 / 4)

    def test_design_effect_is_of_variance(self):
        assert design_effect(np.ones(4, bool), np.array([0, 0, 1, 1])) is None
        assert design_effect(np.arange(4) > 1, np.zeros(4, int)) is None

    def test_the_order_of_inputs_does_not_matter(self):
        random = np.random.default_rng(0)
        flags, groups, order = random.random(60) < 0.6, random.integers(0, 9, 60), random.permutation(60)
        assert rate(flags, groups).low == pytest.approx(rate(flags[order], groups[order]).low)

    def test_two_videos_of_one_frame_each_are_two_inputs(self):
        found = rate(np.ones(200, bool), np.repeat([0, 1], 100))
        assert (found.value, found.n) == (1, 200)
        assert found.low == pytest.approx(wilson(2, 2, effect=(12.706 / 1.959964) ** 2).low)
        assert found.low < 0.1

    def test_one_group_is_one_input_whatever_the_others_show(self):
        flags = np.arange(100) < 10
        assert rate(flags, np.zeros(100, int), otherwise=1.0) == wilson(10, 100, effect=100)

    def test_students_freedom_is_of_as_many_equal_groups(self):
        groups = np.repeat([0, 1, 2, 3, 4], [40, 10, 10, 10, 10])  # 80² / 2000 are 3.2
        found = rate(np.zeros(80, bool), groups, otherwise=2.0)
        assert found.high == pytest.approx(wilson(0, 80, effect=2 * (4.303 / 1.959964) ** 2).high, rel=1e-3)

    def test_one_large_group_leaves_one_degree_of_freedom(self):
        groups = np.repeat([0, 1, 2], [96, 2, 2])  # 100² / 9224 is 1.08
        found = rate(np.zeros(100, bool), groups, otherwise=2.0)
        assert found.high == pytest.approx(wilson(0, 100, effect=2 * (12.706 / 1.959964) ** 2).high, rel=1e-3)

    def test_where_all_outcomes_are_the_same_the_effect_of_others_counts(self):
        groups = np.repeat(np.arange(12), 40)
        found = rate(np.zeros(480, bool), groups, otherwise=3.0)
        assert found.high == pytest.approx(wilson(0, 480, effect=3 * (2.201 / 1.959964) ** 2).high, rel=1e-3)

    @pytest.mark.parametrize(
        ("freedom", "quantile"),
        [(1, 12.706), (9, 2.262), (10, 2.2281), (19, 2.0930), (39, 2.0227), (10**6, 1.96)],
    )
    def test_students_quantile(self, freedom, quantile):
        assert student(freedom) == pytest.approx(quantile, abs=6e-4)

    @pytest.mark.parametrize(
        ("groups", "size", "alike"),
        [(12, 40, 0.05), (45, 6, 0.15), (200, 2, 0.5)],  # voices and their clips, tracks and their signs
    )
    @pytest.mark.parametrize("share", [0.6, 0.95])
    def test_the_interval_holds_the_truth_where_inputs_of_a_group_are_alike(self, groups, size, alike, share):
        random, spread = np.random.default_rng(3), 1 / alike - 1
        member, held, naive = np.repeat(np.arange(groups), size), 0, 0
        for _ in range(1000):
            own = random.beta(share * spread, (1 - share) * spread, groups)
            flags = random.random(groups * size) < own[member]
            found, counted = rate(flags, member), alone(flags)
            held += found.low <= share <= found.high
            naive += counted.low <= share <= counted.high
        assert naive < 920, "it would do without the groups"
        assert held >= 920

    @pytest.mark.parametrize(("groups", "spread", "alike"), [(12, 1.5, 0.1), (20, 1.0, 0.3), (40, 1.0, 0.3)])
    def test_and_where_groups_are_of_very_different_sizes(self, groups, spread, alike):
        random, share, held = np.random.default_rng(4), 0.7, 0
        for _ in range(1000):
            sizes = np.ceil(15 * np.exp(spread * random.normal(size=groups))).astype(int)
            own = random.beta(share * (1 / alike - 1), (1 - share) * (1 / alike - 1), groups)
            member = np.repeat(np.arange(groups), sizes)
            found = rate(random.random(len(member)) < own[member], member)
            held += found.low <= share <= found.high
        assert held >= 930
