"""The database's quantiles of Student's t and what it computes with them: against SciPy."""

import math

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from prunectl.store.db import schema
from tests.support.t_quantiles import LAST, t_quantiles


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(":memory:", config={"threads": "1"}) as made:
        schema.create(made)
        yield made


def test_the_shipped_table_is_scipys(connection):
    """python -m tests.support.t_quantiles | gzip -9n > prunectl/store/db/t_quantiles.csv.gz"""
    rows = connection.execute("SELECT df, t975 FROM t_quantiles ORDER BY df").fetchall()
    expected = t_quantiles()
    assert [df for df, _ in rows] == [df for df, _ in expected] == [*range(1, LAST + 1), math.inf]
    assert [each for _, each in rows] == pytest.approx([each for _, each in expected], rel=1e-13)


@pytest.mark.parametrize("df", [1, 2, 3, 10, 29, 30, 31, 100, 999, 1000, 1001, 2000, 100_000])
def test_quantiles_are_scipys(df, connection):
    exact = t.ppf(0.975, df)
    assert connection.execute(f"SELECT t975({df})").fetchall() == [
        (pytest.approx(exact, abs=1e-6),)
    ]


def test_quantiles_take_aggregates(connection):
    sql = "SELECT t975(count(*) - 1) FROM range(3) GROUP BY ALL"
    assert connection.execute(sql).fetchall() == [(pytest.approx(t.ppf(0.975, 2)),)]


def test_there_is_no_interval_below_two_values(connection):
    assert connection.execute("SELECT t975(0), t975(-1), t975(NULL)").fetchall() == [(None,) * 3]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.02, 50), st.sampled_from([1.0, -1.0]))
def test_n_needed_is_the_least_n_that_leaves_out_zero(connection, ratio, sign):
    ((found,),) = connection.execute("SELECT n_needed($1, 1.0)", [sign * ratio]).fetchall()
    slack = 0 if found <= LAST else 1  # beyond the table quantiles are interpolated

    def decides(n):
        return t.ppf(0.975, n - 1) / math.sqrt(n) < ratio

    assert decides(found + slack)
    assert found == 2 or not decides(found - 1 - slack)


def test_n_needed_without_spread_or_without_difference(connection):
    row = connection.execute("SELECT n_needed(0.0, 1.0), n_needed(0.5, 0.0)").fetchall()
    assert row == [(None, 2)]


@pytest.mark.parametrize(("mean", "std"), [(1e-9, 50.0), (1e-100, 1e100), (1e-300, 1e300)])
def test_n_needed_is_null_where_no_integer_holds_it(connection, mean, std):
    assert connection.execute("SELECT n_needed($1, $2)", [mean, std]).fetchall() == [(None,)]
