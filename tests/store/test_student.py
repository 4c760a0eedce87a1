"""Student's t in Python and in the database: both against scipy."""

import math

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from prunectl.store.db import student


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(":memory:", config={"threads": "1"}) as made:
        made.execute(student.macros())
        yield made


@pytest.mark.parametrize("df", [1, 2, 3, 10, 29, 30, 31, 32, 50, 100, 1000, 100_000])
def test_quantiles_are_scipys_and_the_databases(df, connection):
    exact = t.ppf(0.975, df)
    assert student.t975(df) == pytest.approx(exact, abs=1e-6)
    assert connection.execute(f"SELECT t975({df})").fetchall() == [
        (pytest.approx(student.t975(df), rel=1e-15),)
    ]


def test_there_is_no_interval_below_two_values(connection):
    assert connection.execute("SELECT t975(0), t975(-1), t975(NULL)").fetchall() == [(None,) * 3]
    assert student.half_width(1.0, 1) is None


@settings(max_examples=60, deadline=None)
@given(st.floats(0.02, 50), st.sampled_from([1.0, -1.0]))
def test_n_needed_is_the_least_n_that_leaves_out_zero(connection, ratio, sign):
    found = student.n_needed(sign * ratio, 1.0)

    def decides(n):
        return t.ppf(0.975, n - 1) / math.sqrt(n) < ratio

    slack = 0 if found <= 30 else 1  # beyond the table it is an expansion, rounded up
    assert decides(found + slack)
    assert found - slack <= 2 or not decides(found - 1 - slack)
    assert connection.execute("SELECT n_needed($1, 1.0)", [sign * ratio]).fetchall() == [(found,)]


def test_n_needed_without_spread_or_without_difference(connection):
    assert (student.n_needed(0.0, 1.0), student.n_needed(0.5, 0.0)) == (None, 2)
    row = connection.execute("SELECT n_needed(0.0, 1.0), n_needed(0.5, 0.0)").fetchall()
    assert row == [(None, 2)]
