"""Bringing the database up to date before a command answers from it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from prunectl.cli.support.terminal import narrate
from prunectl.store.paths import StorePaths


def results_of(store: Path | None) -> StorePaths:
    """Locate the store and read what is new in its folders into the database.

    What stands in the way of that is written to stderr, and the answer may then be behind.
    """
    paths = StorePaths.locate(store)
    bring_up_to_date(paths)
    return paths


def bring_up_to_date(paths: StorePaths, stages: Collection[str] | None = None) -> None:
    """Read what is new into the database, as `query.bring_up_to_date`; write to stderr what stands in the way."""
    from prunectl.store.db import query

    query.tell = narrate
    for note in query.bring_up_to_date(paths, stages=stages):
        narrate(note)
