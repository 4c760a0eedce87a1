"""Bringing the database up to date before a command answers from it."""

from __future__ import annotations

from pathlib import Path

from prunectl.cli.support.terminal import narrate
from prunectl.store.paths import StorePaths


def results_of(store: Path | None) -> StorePaths:
    """Locate the store and read what is new in its folders into the database.

    What stands in the way of that is written to stderr, and the answer may then be behind.
    """
    from prunectl.store.db.query import bring_up_to_date

    paths = StorePaths.locate(store)
    for note in bring_up_to_date(paths):
        narrate(note)
    return paths
