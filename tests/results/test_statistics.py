"""Intervals, bounds, ties and power against SciPy and NumPy."""

import math

import numpy
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.results.statistics import paired, welch
from prunectl.results.ties import Record, paired_difference, record

accuracy = st.floats(0, 100).map(lambda x: round(x, 2))
samples = st.lists(accuracy, min_size=2, max_size=40)


@settings(deadline=None)
@given(samples)
def test_intervals_are_scipys(values):
    found = paired(values)
    assert found.mean == pytest.approx(numpy.mean(values), rel=1e-9, abs=1e-9)
    assert found.std == pytest.approx(numpy.std(values, ddof=1), rel=1e-9, abs=1e-9)
    scale = scipy.stats.sem(values)
    if scale == 0:
        assert found.half == 0
        return
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, numpy.mean(values), scale)
    ends = found.mean - found.half, found.mean + found.half
    assert ends == pytest.approx((low, high), rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(accuracy, accuracy), min_size=2, max_size=30))
def test_a_tie_is_a_paired_t_test_that_shows_nothing(pairs):
    a, b = ({seed: pair[i] for seed, pair in enumerate(pairs)} for i in (0, 1))
    differences = numpy.array([x - y for x, y in pairs])
    if differences.std() < 1e-9:
        return
    p = scipy.stats.ttest_rel([x for x, _ in pairs], [y for _, y in pairs]).pvalue
    if abs(p - 0.05) > 1e-4:
        assert (record({0: a}, {0: b}).ties == 1) == (p > 0.05)
    assert record({0: a}, {0: b}).ties == record({0: b}, {0: a}).ties


def test_pairs_are_of_the_same_seed():
    found = paired_difference({0: 91.0, 1: 92.0, 7: 50.0}, {1: 91.5, 0: 90.0, 8: 1.0})
    assert (found.n, found.mean) == (2, 0.75)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_one_seed_decides_nothing():
    assert paired([5.0]).half is None
    assert record({0.5: {0: 99.0}}, {0.5: {0: 1.0}}) == Record(ties=1)
    assert record({0.5: {0: 99.0}}, {0.5: {1: 1.0}}) == Record()
    with pytest.raises(ValueError, match="at least one"):
        paired([])


def test_wins_ties_and_losses():
    low, high, noisy = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.2, 2: 2.1}, {0: 9.0, 1: 0.0, 2: 1.0}
    ours = {0.2: high, 0.3: low, 0.4: low, 0.5: {}, 0.6: high}
    found = record(ours, {0.2: low, 0.3: high, 0.4: noisy, 0.5: low})
    assert found == Record(wins=1, ties=1, losses=1)


@settings(deadline=None)
@given(samples, st.sampled_from([0.025, 0.05, 0.01]), accuracy)
def test_bounds_and_p_values_of_pairs_are_scipys(values, tail, value):
    found = paired(values)
    if numpy.std(values) < 1e-9:
        return
    test = scipy.stats.ttest_1samp(values, value, alternative="greater")
    low = test.confidence_interval(1 - tail).low
    assert found.lower(tail) == pytest.approx(low, rel=1e-9, abs=1e-9)
    assert found.upper(tail) == pytest.approx(2 * numpy.mean(values) - low, rel=1e-9, abs=1e-9)
    assert found.above(value) == pytest.approx(test.pvalue, abs=1e-9)
    assert found.below(value) == pytest.approx(1 - test.pvalue, abs=1e-9)


@settings(deadline=None)
@given(samples, samples)
def test_independent_samples_are_compared_as_welch_does(a, b):
    if min(numpy.std(a), numpy.std(b)) < 1e-6:
        return
    found = welch(a, b)
    test = scipy.stats.ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(0.9)
    assert found.df == pytest.approx(test.df)
    assert (found.lower(0.05), found.upper(0.05)) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


def test_seeds_that_came_out_alike_prove_nothing_finer_than_a_test_item():
    assert paired([0.3, 0.3, 0.3]).lower(0.05) == 0.3
    assert paired([0.3, 0.3, 0.3], 0.28).lower(0.05) < 0


def test_one_seed_bounds_nothing():
    one = paired([5.0])
    assert (one.lower(0.05), one.upper(0.05)) == (-math.inf, math.inf)
    assert one.above(0) == one.below(0) == 1.0
