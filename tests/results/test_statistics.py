"""The statistics against scipy and numpy, and against what the database's views compute."""

import math

import numpy
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.results import statistics as stats

accuracy = st.floats(0, 100).map(lambda x: round(x, 2))
samples = st.lists(accuracy, min_size=2, max_size=40)
close = {"rel": 1e-9, "abs": 1e-9}


@settings(deadline=None)
@given(samples)
def test_mean_std_and_median_are_numpys(values):
    assert stats.mean(values) == pytest.approx(numpy.mean(values), **close)
    assert stats.std(values) == pytest.approx(numpy.std(values, ddof=1), **close)
    assert stats.median(values) == pytest.approx(numpy.median(values), **close)


@settings(deadline=None)
@given(samples, st.sampled_from([0.95, 0.8, 0.99]))
def test_intervals_are_scipys(values, confidence):
    found = stats.interval(values, confidence)
    scale = scipy.stats.sem(values)
    if scale == 0:
        assert found.half == 0
        return
    low, high = scipy.stats.t.interval(confidence, len(values) - 1, numpy.mean(values), scale)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-5, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(accuracy, accuracy), min_size=2, max_size=30))
def test_a_tie_is_a_paired_t_test_that_shows_nothing(pairs):
    a, b = ({seed: pair[i] for seed, pair in enumerate(pairs)} for i in (0, 1))
    differences = numpy.array([x - y for x, y in pairs])
    if differences.std() < 1e-9:
        return
    p = scipy.stats.ttest_rel([x for x, _ in pairs], [y for _, y in pairs]).pvalue
    if abs(p - 0.05) > 1e-4:
        assert stats.tied(a, b) == (p > 0.05)
    assert stats.tied(a, b) == stats.tied(b, a)


def test_pairs_are_of_the_same_seed():
    found = stats.paired({0: 91.0, 1: 92.0, 7: 50.0}, {1: 91.5, 0: 90.0, 8: 1.0})
    assert (found.n, found.mean) == (2, 0.75)
    assert stats.paired({0: 1.0}, {1: 1.0}) is None


def test_one_seed_decides_nothing():
    one = stats.interval([5.0])
    assert (one.half, one.covers_zero, one.n_needed) == (None, True, None)
    assert stats.tied({0: 99.0}, {0: 1.0})
    assert stats.tied({0: 99.0}, {1: 1.0})
    with pytest.raises(ValueError, match="no values"):
        stats.interval([])


def test_the_n_that_would_decide():
    undecided = stats.interval([0.3, -0.1, 0.2])
    assert undecided.covers_zero
    n = undecided.n_needed
    assert n == 12
    assert scipy.stats.t.ppf(0.975, n - 1) * undecided.std / math.sqrt(n) < undecided.mean
    assert scipy.stats.t.ppf(0.975, n - 2) * undecided.std / math.sqrt(n - 1) > undecided.mean


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 9), st.integers(0, 5).map(float), min_size=1))
def test_ranks_are_scipys(values):
    expected = scipy.stats.rankdata([-v for v in values.values()], method="average")
    assert list(stats.ranks(values).values()) == list(expected)


def test_average_ranks_count_only_the_columns_a_method_is_in():
    columns = [{"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 1.0, "b": 2.0}]
    assert stats.average_ranks(columns) == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_wins_ties_and_losses():
    low, high, noisy = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.2, 2: 2.1}, {0: 9.0, 1: 0.0, 2: 1.0}
    found = stats.record([high, low, low, {}], [low, high, noisy, low])
    assert found == stats.Record(wins=1, ties=1, losses=1)


@pytest.mark.parametrize(
    ("loss", "expected"), [(0, 4.0), (0.25, 4.0), (0.5, 8.0), (1, 16.0), (-1, None)]
)
def test_largest_compression(loss, expected):
    points = [(2.0, 92.4), (3.0, 91.99), (4.0, 92.0), (8.0, 91.5), (16.0, 91.0)]
    assert stats.largest_compression(points, 92.0, loss) == expected
