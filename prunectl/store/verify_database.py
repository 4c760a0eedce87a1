"""Compare the database with the files, for `store verify`."""

from __future__ import annotations

from collections.abc import Iterator

from prunectl.errors import DiskError, StoreBusy, StoreError
from prunectl.store import files
from prunectl.store.db import ingest, query
from prunectl.store.db.database import Damaged
from prunectl.store.db.left_out import REPLACED
from prunectl.store.db.loader import SCHEDULER
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import current_studies
from prunectl.store.verdict import Verdict

_UNDESCRIBED = "SELECT split_part(source, '/', 2) FROM left_out WHERE source LIKE '%/spec.json'"
ORPHANS = {
    table: f"SELECT count(*) FROM {table} WHERE stage NOT IN (SELECT stage FROM stages) "
    f"AND stage NOT IN ({_UNDESCRIBED})"
    for table in ("epochs", "layers", "rates", "paths")
} | {
    "stages": "SELECT count(*) FROM stages WHERE done AND stage NOT IN (SELECT source FROM ingested)",
    "events": "SELECT count(*) FROM events WHERE stage IS NOT NULL AND log <> 'scheduler' "
    f"AND stage NOT IN (SELECT stage FROM stages) AND stage NOT IN ({_UNDESCRIBED})",
    "plan_trials": "SELECT count(*) FROM plan_trials WHERE trial NOT IN (SELECT trial FROM trials)",
}
"""Queries that count rows without the stage or trial they belong to, but for stages whose description is left out."""


def indexed_lines(paths: StorePaths) -> tuple[int, str]:
    """Return how many lines of the scheduler's log the database has read, and their digest; (0, "") without one."""
    sql = f"SELECT lines, digest FROM ingested WHERE source = '{SCHEDULER}'"
    if not files.disk.exists(paths.database):
        return 0, ""
    try:
        found = query.run(paths, sql).rows
    except StoreError:  # which is said where the database is looked at
        return 0, ""
    return (int(found[0][0]), str(found[0][1])) if found else (0, "")


def check_database(paths: StorePaths, verdict: Verdict) -> None:
    """Compare the database with the files."""
    try:
        report = ingest.ingest(paths)
        if report.busy:
            raise StoreBusy(f"{paths.database} is held by another process")
        verdict.problems += report.notes
        try:
            query.read_all(paths)
        except Damaged as error:
            verdict.problems.append(f"{error}: it is made anew from the files")
            ingest.rebuild(paths)
        replaced = f"SELECT source || ' ' || text FROM left_out WHERE place = {REPLACED}"
        verdict.problems += (str(row[0]) for row in query.run(paths, replaced).rows)
        for problem in _rows(paths):
            verdict.problems.append(f"results.duckdb: {problem}; `prunectl store rebuild`")
    except (StoreBusy, DiskError) as error:
        verdict.notes.append(f"the database was not looked at: {error}")
    except StoreError as error:
        verdict.problems.append(f"results.duckdb: {error}; `prunectl store rebuild`")


def _rows(paths: StorePaths) -> Iterator[str]:
    for table, sql in ORPHANS.items():
        if count := query.run(paths, sql).rows[0][0]:
            yield f"{count} rows of {table} belong to no stage or trial"
    marked = {row[0] for row in query.run(paths, "SELECT stage FROM stages WHERE done").rows}
    left_out = query.left_out(paths)
    real = {
        path.parent.name
        for path in files.disk.glob(paths.stages, "*/result.json")
        if path.relative_to(paths.root).as_posix() not in left_out
    }
    if marked != real:
        yield f"{len(marked ^ real)} stages are done in one of database and files only"
    asked = {
        (trial.id, iteration)
        for study in current_studies(paths)
        for trial in study.trials
        for iteration, key in enumerate(trial.path)
        if key in real
    }
    rows = query.run(paths, "SELECT trial, iteration FROM iterations").rows
    if len(rows) != len(set(rows)):
        yield f"{len(rows) - len(set(rows))} iterations stand in it twice"
    if missing := asked - set(rows):
        yield f"{len(missing)} finished iterations are missing"
