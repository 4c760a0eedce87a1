"""What seeds can tell: against experiments, and against tables of statisticians."""

import math

import numpy
import pytest
import scipy.stats

from prunectl.results import power

MANY = 100_000


@pytest.mark.parametrize(
    ("n", "effect", "tail"),
    [(2, 5.0, 0.05), (3, 1.5, 0.05), (5, 1.2, 0.05 / 3), (10, 0.8, 0.05 / 9)],
)
def test_the_power_of_a_one_sided_test_is_that_of_experiments(n, effect, tail):
    drawn = numpy.random.default_rng(n).normal(effect, 1, (MANY, n))
    t = drawn.mean(1) / (drawn.std(1, ddof=1) / math.sqrt(n))
    told = (t > scipy.stats.t.ppf(1 - tail, n - 1)).mean()
    assert power.one_sided(effect, 1.0, n, tail) == pytest.approx(told, abs=0.006)


@pytest.mark.parametrize(
    ("n", "difference", "margin"), [(5, 0.1, 1.0), (8, 0.3, 1.0), (20, 0.0, 0.5)]
)
def test_the_power_of_equivalence_is_that_of_experiments(n, difference, margin):
    drawn = numpy.random.default_rng(n).normal(difference, 1, (MANY, n))
    reach = scipy.stats.t.ppf(0.95, n - 1) * drawn.std(1, ddof=1) / math.sqrt(n)
    inside = (drawn.mean(1) + reach < margin) & (drawn.mean(1) - reach > -margin)
    found = power.equivalence(difference, 1.0, n, 0.05, margin)
    assert found == pytest.approx(inside.mean(), abs=0.006)


def test_the_numbers_of_seeds_are_those_of_the_textbook():
    """Cohen's table for a one-sided paired test at 5 % with 80 %: d = 0.2, 0.5, 0.8 need 156, 27, 12."""
    least = [
        next(n for n in range(2, 999) if power.one_sided(d, 1.0, n, 0.05) >= 0.8)
        for d in (0.2, 0.5, 0.8)
    ]
    assert least == [156, 27, 12]


def test_the_range_of_seeds_is_that_of_the_spreads_interval():
    found = power.seeds_for_gap(0.5, 0.4, 3, 0.05)
    low, high = power.spread_interval(0.4, 3)
    draws = numpy.random.default_rng(1).normal(0, 1, (MANY, 3)).std(1, ddof=1)
    covered = (draws * power.spread_interval(1.0, 3)[0] < 1) & (
        draws * power.spread_interval(1.0, 3)[1] > 1
    )
    assert covered.mean() == pytest.approx(0.8, abs=0.006)
    for spread, n in ((low, found.low), (high, found.high)):
        assert power.one_sided(0.5, spread, n, 0.05) >= 0.8
        assert n == 2 or power.one_sided(0.5, spread, n - 1, 0.05) < 0.8
    assert str(found) == f"{found.low}–{found.high} seeds"


def test_what_seeds_do_not_decide_is_said():
    assert str(power.seeds_for_gap(0.001, 1.0, 3, 0.05)) == "not by seeds"
    assert str(power.seeds_for_gap(0.3, 0.5, 3, 0.05)).endswith("–100+ seeds")
    assert str(power.seeds_for_gap(0.0, 0.0, 3, 0.05)) == "not by seeds"


@pytest.mark.parametrize(("n", "tail"), [(2, 0.05), (3, 0.05), (3, 0.05 / 9), (10, 0.05 / 4)])
def test_the_smallest_gap_is_told_with_that_power(n, tail):
    gap = power.smallest_gap(0.3, n, tail)
    assert power.one_sided(gap, 0.3, n, tail) == pytest.approx(0.8, abs=1e-4)
    assert power.smallest_gap(0.0, n, tail) == 0.0
