"""A store from Python: SQL and the tables of the command line as data frames.

    import prunectl
    store = prunectl.open("store")
    store.sql("SELECT * FROM iterations WHERE plan = 'wrn'")
    store.rank("wrn"); store.iterations("wrn"); store.query("seeds-missing", plan="wrn")

Every call opens the database, reads, and closes it again, because a connection that stays open in a notebook would
keep the run that it looks at from recording into the database.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from prunectl.store.db import queries, query
from prunectl.store.db.query import Parameters, Result
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from prunectl.results.plots import Asked

Table: TypeAlias = Any
"""A pandas.DataFrame where pandas is installed, else a list with a dictionary per row."""


class Store:
    """A store to query. It keeps nothing open, so it may be held for as long as a notebook lives."""

    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths

    def __repr__(self) -> str:
        return f"prunectl.open({str(self._paths.root)!r})"

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._paths.root

    def sql(self, query_: str, /, parameters: Parameters = None, limit: int | None = None) -> Table:
        """Run SQL that only reads; `parameters` fill `$name` or `$1`, and at most `limit` rows come back.

        Raises QueryError for what the database refuses, StoreBusy where another process keeps holding the file,
        StoreError where there is nothing to read.
        """
        return _table(query.run(self._fresh(), query_, parameters, limit))

    def query(self, name: str, /, **parameters: str) -> Table:
        """Run one of the queries that `prunectl sql -q list` names. Raises UnknownName, else as `sql`."""
        values: Mapping[str, str] = {key: str(value) for key, value in parameters.items()}
        return _table(queries.run_query(self._fresh(), name, values))

    recipe = query
    """The same under its former name."""

    def rank(
        self,
        plan: str | None = None,
        *,
        network: str | None = None,
        dataset: str | None = None,
        version: int | None = None,
    ) -> Table:
        """Read one row per cell of a plan (the last one used, unless named): what `prunectl rank` shows.

        `version` is the number of one of its versions, by default the one used last. Raises ControlError for a plan or
        a version the store does not have.
        """
        from prunectl.results.cells import cells

        rows = cells(self._fresh(), plan, network=network, dataset=dataset, version=version)
        return _table(rows)

    def iterations(self, plan: str | None = None) -> Table:
        """Read the per-iteration results, one row per trial and finished iteration, of a plan or of all.

        Of each plan they are those of the version used last; the view `iterations_all` has the others.
        """
        sql = """SELECT * FROM iterations WHERE $plan IS NULL OR plan = $plan
            ORDER BY plan, network, dataset, strategy, schedule, seed, order_seed, augment_seed, trial, iteration"""
        return _table(query.run(self._fresh(), sql, {"plan": plan}))

    def plot(self, plan: str | None = None, kind: Asked = "score", **options: Any) -> Figure:
        """Draw a figure as `prunectl plot` does; `options` are those of `results.plots.plot`."""
        from prunectl.results.plots import plot

        return plot(self._fresh(), plan, kind, **options)

    def _fresh(self) -> StorePaths:
        for note in query.bring_up_to_date(self._paths):
            warnings.warn(note, stacklevel=3)
        return self._paths


def open(store: str | os.PathLike[str] | None = None) -> Store:  # noqa: A001 - reads prunectl.open
    """Locate the store in this folder (PRUNECTL_STORE, then ./store, unless given). Nothing is read yet."""
    return Store(StorePaths.locate(Path(store) if store is not None else None))


def _table(result: Result) -> Table:
    try:
        import pandas
    except ImportError:
        return result.dicts()
    return pandas.DataFrame.from_records(result.rows, columns=list(result.columns))
