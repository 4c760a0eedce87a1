"""The database's quantiles of Student's t and what it computes with them: against SciPy."""

import math

import duckdb
import pytest
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
    rows = connection.execute("SELECT * FROM t_quantiles ORDER BY comparisons, df").fetchall()
    expected = t_quantiles()
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    assert [row[2] for row in rows] == pytest.approx([row[2] for row in expected], rel=1e-13)
    assert [df for m, df, _ in rows if m == 2] == [*range(1, LAST + 1), math.inf]


@pytest.mark.parametrize("comparisons", [1, 2, 3, 9, 64, 65, 4000])
@pytest.mark.parametrize("df", [1, 2, 9, 99, 100, 101, 300, 1000, 5000])
def test_quantiles_of_many_comparisons_are_never_too_small(comparisons, df, connection):
    """More than 64 comparisons count as 4096: too strict, for nobody compares so many."""
    exact = t.isf(0.05 / (comparisons if comparisons <= 64 else 4096), df)
    sql = f"SELECT t_among_of(t_lists(), {comparisons}, {df})"
    ((found,),) = connection.execute(sql).fetchall()
    assert found >= exact * (1 - 1e-12)
    assert found == pytest.approx(exact, rel=1e-3)


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
