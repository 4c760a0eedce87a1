"""From the store's files into results.duckdb: incremental, exactly once, and harmless to repeat.

The files are the truth and the database is an index of them. How far each log has been read stands in the
database itself, written in the same transaction as the rows, so that whatever is killed at whatever moment, the
next call goes on where the last committed one ended. Only whoever holds the side lock writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from prunectl.errors import StoreBusy
from prunectl.gc_pause import without_collector
from prunectl.store.db import schema
from prunectl.store.db.database import Damaged, opened
from prunectl.store.db.loader import Loader, Outdated
from prunectl.store.files import replacing
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths

PATIENCE = 0.5
"""Seconds to wait for readers to let go before reporting busy; the next call catches up."""

BATCH = 256
"""Stages per opening of the file: a long catch-up lets readers in between."""


@dataclass
class IngestReport:
    """What a call of `ingest` or `rebuild` did."""

    busy: bool = False
    """Another process held the file and nothing (more) was read; call again later."""
    stages: int = 0
    """Stages that had something new."""
    records: int = 0
    """Log records read."""
    finished: int = 0
    """Stages that became done."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """What a person should know: a damaged file set aside, files that could not be read."""


def ingest(
    paths: StorePaths, keys: Iterable[str] | None = None, patience: float = PATIENCE
) -> IngestReport:
    """Bring the database up to date: plans, runs, the scheduler's log, and the stages `keys` (None: all).

    Makes the database where there is none, makes it anew where it is of an older version, and sets a damaged one
    aside first. Reports `busy` where another process holds it. Raises StoreError where the file is newer than
    this program, or the folder cannot be written.
    """
    started = time.monotonic()
    report = IngestReport()
    lock = Lock(paths.database_lock)
    try:
        _take(lock, patience)
        try:
            if paths.database.exists() and _update(paths, keys, report, patience):
                return report
            _rebuild(paths, report, patience)
        finally:
            lock.release()
    except StoreBusy:
        report.busy = True
    finally:
        report.seconds = time.monotonic() - started
    return report


def rebuild(paths: StorePaths, patience: float = 5.0) -> IngestReport:
    """Make the database anew from the files: a new file, then a rename, so that readers see the old or the new.

    Raises StoreBusy where another process keeps holding it, StoreError where the folder cannot be written.
    """
    started = time.monotonic()
    report = IngestReport()
    lock = Lock(paths.database_lock)
    _take(lock, patience)
    try:
        _rebuild(paths, report, patience)
    finally:
        lock.release()
    report.seconds = time.monotonic() - started
    return report


def _take(lock: Lock, patience: float) -> None:
    """The side lock, which keeps two writers of ours from replacing the file under each other."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return lock.acquire(f"process {os.getpid()}")
        except StoreBusy:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.01)


def _update(
    paths: StorePaths, keys: Iterable[str] | None, report: IngestReport, patience: float
) -> bool:
    """Read what is new; False where the file has to be made anew instead."""
    pending: list[str] | None = None
    try:
        while pending is None or pending:
            with opened(paths.database, write=True, patience=patience) as connection:
                if not schema.is_current(connection):
                    report.notes.append(
                        f"{paths.database} has tables of an older version: made anew from the files"
                    )
                    return False
                loader = Loader(paths, connection, report)
                if pending is None:
                    loader.load_plans_and_runs()
                    pending = loader.pending(keys)
                loader.load_stages(pending[:BATCH])
                pending = pending[BATCH:]
    except Outdated as error:
        report.notes.append(f"{error}: the database is made anew from the files")
        return False
    except Damaged as error:
        report.notes.append(f"{error}; {_set_aside(paths.database)} and made anew from the files")
        return False
    return True


def _rebuild(paths: StorePaths, report: IngestReport, patience: float) -> None:
    _quiesce(paths.database, report, patience)  # here too: a minute's work would be in vain
    with replacing(paths.database) as temporary:
        with opened(temporary, write=True, patience=patience) as connection:
            schema.create(connection)
            loader = Loader(paths, connection, report)
            loader.load_plans_and_runs()
            pending = loader.pending(None)
            with without_collector():
                for start in range(0, len(pending), BATCH):
                    loader.load_stages(pending[start : start + BATCH])
        _quiesce(paths.database, report, patience)


def _quiesce(database: Path, report: IngestReport, patience: float) -> None:
    """See that nobody holds the old file, and fold its write-ahead log in, for that would be taken for the new
    file's.

    Raises StoreBusy where somebody does.
    """
    if not database.exists():
        _wal(database).unlink(missing_ok=True)
        return
    try:
        with opened(database, write=True, patience=patience) as connection:
            connection.execute("CHECKPOINT")
    except (Damaged, duckdb.Error) as error:
        report.notes.append(f"{error}; {_set_aside(database)}")


def _wal(database: Path) -> Path:
    return database.with_name(database.name + ".wal")


def _set_aside(database: Path) -> str:
    """Rename a damaged file and its write-ahead log; says where to."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = database.with_name(f"{database.name}.damaged-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = database.with_name(f"{database.name}.damaged-{stamp}-{number}")
    for source, target in ((database, kept), (_wal(database), _wal(kept))):
        if source.exists():
            os.replace(source, target)
    return f"set aside as {kept.name}"
