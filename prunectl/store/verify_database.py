"""Compare the database with the files, for `store verify`."""

from __future__ import annotations

from prunectl.errors import DiskError, StoreBusy, StoreError
from prunectl.store.db import ingest, query
from prunectl.store.db.compare import differences
from prunectl.store.db.database import Damaged
from prunectl.store.db.ingest_offsets import offset_of
from prunectl.store.db.left_out import REPLACED
from prunectl.store.db.log_reader import SCHEDULER
from prunectl.store.paths import StorePaths
from prunectl.store.progress import Progress, silent
from prunectl.store.verdict import Verdict


def indexed_lines(paths: StorePaths) -> tuple[int, str]:
    """Return how many lines of the scheduler's log the database has read, and their digest; (0, "") without one.

    A damaged database is left as it is, to be named where it is looked at.
    """
    found = offset_of(paths.database, SCHEDULER)
    return found.lines, found.digest


def check_database(paths: StorePaths, verdict: Verdict, progress: Progress = silent) -> None:
    """Compare the database with the files; `progress` hears how many stages are compared."""
    try:
        report = ingest.ingest(paths)
        if report.busy:
            raise StoreBusy(f"{paths.database} is held by another process")
        verdict.problems += report.notes
        try:
            query.read_all(paths)
            for problem in differences(paths, progress):
                verdict.problems.append(f"results.duckdb: {problem}; `prunectl store rebuild`")
        except Damaged as error:
            verdict.problems.append(f"{error}: it is made anew from the files")
            ingest.rebuild(paths)
        replaced = f"SELECT source || ' ' || text FROM left_out WHERE place = {REPLACED}"
        verdict.problems += (str(row[0]) for row in query.run(paths, replaced).rows)
    except (StoreBusy, DiskError) as error:
        verdict.notes.append(f"the database was not looked at: {error}")
    except StoreError as error:
        verdict.problems.append(f"results.duckdb: {error}; `prunectl store rebuild`")
