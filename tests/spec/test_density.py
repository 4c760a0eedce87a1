"""The arithmetic of densities: exact, never drifting, and shared so that it adds up."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunectl.spec.density import ImpossibleDensity, competitions, kept, shares

N = 270_896


def test_ladder_counts_from_the_dense_network():
    # Rounding what is left ten times instead ends at 29,081 or 29,086.
    assert kept(N, Fraction(8, 10) ** 10) == 29_087
    assert kept(851_504, "0.107") == 91_111


@pytest.mark.parametrize(
    ("weights", "density", "expected"),
    [
        (10, "0", 0),
        (10, "1", 10),
        (10, "0.25", 2),  # halves to even
        (10, "0.35", 4),
        (N, "0.000001", 0),
        (N, "0.000004", 1),
        (N, Fraction(N - 1, N), N - 1),
        (10**18, "0.1", 10**17),  # a float would be off here
    ],
)
def test_kept(weights, density, expected):
    assert kept(weights, density) == expected


@pytest.mark.parametrize("density", ["-0.1", "1.1", "nan", "half"])
def test_kept_refuses_what_is_no_density(density):
    with pytest.raises(ValueError, match=r"density|Invalid literal"):
        kept(10, density)


def test_a_step_too_small_to_prune_anything_can_be_seen():
    assert kept(40, "0.99") == kept(40, "1")


sizes = st.lists(st.integers(1, 10_000), min_size=1, max_size=8)


@given(sizes, st.data())
def test_shares_add_up_within_their_limits(sizes, data):
    limits = [data.draw(st.integers(0, size)) for size in sizes]
    total = data.draw(st.integers(0, sum(limits)))
    result = shares(sizes, limits, total)
    assert sum(result) == total
    assert all(0 <= share <= limit for share, limit in zip(result, limits, strict=True))


@given(sizes, st.fractions(0, 1))
def test_shares_without_limits_are_within_one_of_proportion(sizes, density):
    total = kept(sum(sizes), density)
    for share, size in zip(shares(sizes, sizes, total), sizes, strict=True):
        assert abs(share - Fraction(total * size, sum(sizes))) < 1


def test_largest_remainder_wins_and_ties_go_to_the_earlier():
    assert shares([10, 10, 10], [10, 10, 10], 4) == [2, 1, 1]
    assert shares([5, 4], [5, 4], 3) == [2, 1]
    assert shares([4, 5], [4, 5], 3) == [1, 2]


def test_what_a_full_layer_cannot_take_goes_to_the_others():
    assert shares([10, 10, 20], [1, 10, 20], 20) == [1, 6, 13]
    with pytest.raises(ValueError, match="cannot be shared"):
        shares([10], [3], 4)


DENSE = {"first": 10, "a": 100, "b": 200, "last": 20}
ENDS = ("first", "last")


def counts(scope, total, alive=DENSE):
    return {c.layers: c.kept for c in competitions(DENSE, alive, ENDS, scope, total)}


def test_scopes():
    assert counts("global", 66) == {("first", "a", "b", "last"): 66}
    assert counts("layerwise", 66) == {("first",): 2, ("a",): 20, ("b",): 40, ("last",): 4}
    assert counts("uniform", 66) == {("first",): 10, ("a",): 12, ("b",): 24, ("last",): 20}


def test_uniform_keeps_ends_as_they_are():
    alive = {"first": 9, "a": 100, "b": 200, "last": 20}
    assert counts("uniform", 59, alive) == {("first",): 9, ("a",): 10, ("b",): 20, ("last",): 20}


@pytest.mark.parametrize(
    ("scope", "total", "alive"),
    [
        ("uniform", 29, DENSE),
        ("uniform", 41, {"first": 10, "a": 5, "b": 5, "last": 20}),
        ("global", 31, {"first": 10, "a": 0, "b": 0, "last": 20}),
    ],
)
def test_densities_that_cannot_be_met(scope, total, alive):
    with pytest.raises(ImpossibleDensity, match="are to be kept, but"):
        counts(scope, total, alive)
