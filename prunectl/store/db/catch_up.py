"""Answers from a database that is up to date: whoever asks reads in first what no scheduler is there to read in."""

from __future__ import annotations

from prunectl.errors import StoreError
from prunectl.store.db import ingest
from prunectl.store.locks import is_held
from prunectl.store.paths import StorePaths

PATIENCE = 0.5
"""Seconds to wait for whoever holds the database before answering from what it has."""


def catch_up(paths: StorePaths) -> list[str]:
    """Read in what is new, unless a scheduler is alive, which does so every second; what a person should know.

    Never stands in the way of the question: where the database is held, cannot be written or is newer than this
    program, that is said in a sentence, and the question that follows meets it, or is answered from what is there.
    """
    if is_held(paths.scheduler_lock) or not (paths.stages.is_dir() or paths.plans.is_dir()):
        return []
    try:
        report = ingest.ingest(paths, patience=PATIENCE)
    except (StoreError, OSError) as error:
        return [f"the answer may be behind: {error}"]
    if report.busy:
        return [f"the answer may be behind: {paths.database.name} is held by another program"]
    return report.notes
