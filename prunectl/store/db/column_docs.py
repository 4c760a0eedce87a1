"""What every table, view and column of results.duckdb means, from column_docs.toml."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.resources import files

import tomli

MEANS = (
    "best_score", "validation_score", "top5", "best_accuracy", "validation_accuracy", "retrain_epochs", "search_epochs",
    "macs", "macs_dense", "kept", "prunable", "kept_parameters", "parameters",
)  # fmt: skip
"""Columns of the view `leaderboard` that are the mean over the seeds of what their name means elsewhere."""


@dataclass(frozen=True)
class Docs:
    """The texts, by name."""

    tables: dict[str, str]
    views: dict[str, str]
    columns: dict[str, str]
    """A column's name means the same in every table, …"""
    particular: dict[str, str]
    """… but for these, by `TABLE.COLUMN`."""

    def column(self, table: str, column: str) -> str:
        """Return what the column means. Raises KeyError for a column without a text."""
        return self.particular.get(f"{table}.{column}") or self.columns[column]


@functools.cache
def docs() -> Docs:
    """Read the texts: only where a database is created or described, for that takes some milliseconds."""
    text = (files("prunectl.store.db") / "column_docs.toml").read_text(encoding="utf-8")
    found = Docs(**tomli.loads(text))
    means = {f"leaderboard.{name}": f"mean over the seeds: {found.columns[name]}" for name in MEANS}
    return Docs(found.tables, found.views, found.columns, {**found.particular, **means})
