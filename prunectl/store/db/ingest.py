"""Bring results.duckdb up to date with the store's files: incremental, exactly once, and harmless to repeat.

The files are the truth and the database is an index of them. How far each log has been read is kept in the database
itself, written in the same transaction as the rows, so that whatever is killed at whatever moment, the next call goes
on where the last committed one ended. Only whoever holds the side lock writes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from prunectl.errors import DiskError, StoreBusy, StoreError
from prunectl.gc_pause import without_collector
from prunectl.store import files
from prunectl.store.db import schema
from prunectl.store.db.database import Connection, Damaged, incomplete, opened
from prunectl.store.db.loader import Loader, Outdated
from prunectl.store.files import replacing, set_aside
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.progress import Progress, silent
from prunectl.store.records.store_format import ensure_format

PATIENCE = 0.5
"""Seconds to wait for whoever holds the file: then readers keep the old one, and a writer is reported as busy."""

BATCH = 256
"""Stages per opening of the file: a long catch-up lets readers in between."""


@dataclass
class IngestReport:
    """Counts of a call of `ingest` or `rebuild`."""

    busy: bool = False
    """Another process held the file and nothing (more) was read; call again later."""
    stages: int = 0
    """Stages that had something new."""
    records: int = 0
    """Log records read."""
    finished: int = 0
    """Stages that became done."""
    seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)
    """A sentence for each file, and each line of a log, that was newly found to be no record."""
    notes: list[str] = field(default_factory=list)
    """Other sentences for the user, such as that a damaged file was set aside."""


def ingest(
    paths: StorePaths, keys: Iterable[str] | None = None, patience: float = PATIENCE
) -> IngestReport:
    """Bring the database up to date: plans, runs, the scheduler's log, and the stages `keys` (None: all).

    Creates the database where there is none, anew where it is of an older version, and sets one aside first that is
    damaged or another program's. Reports `busy` where another process holds it after `patience` seconds. Raises
    StoreError where its tables are newer than this program, or the folder cannot be written.
    """
    started = time.monotonic()
    report = IngestReport()
    try:
        with _write_lock(paths, patience):
            ensure_format(paths)
            if not (files.disk.exists(paths.database) and _update(paths, keys, report, patience)):
                _rebuild(paths, report, patience)
    except StoreBusy:
        report.busy = True
    report.seconds = time.monotonic() - started
    return report


def rebuild(paths: StorePaths, patience: float = 5.0, progress: Progress = silent) -> IngestReport:
    """Create the database anew from the files: a new file, then a rename, so that readers see the old or the new.

    `progress` hears how many stages are read. Raises StoreBusy where another process keeps holding it, StoreError where
    the folder cannot be written.
    """
    started = time.monotonic()
    report = IngestReport()
    with _write_lock(paths, patience):
        ensure_format(paths)
        _rebuild(paths, report, patience, progress)
    report.seconds = time.monotonic() - started
    return report


@contextlib.contextmanager
def _write_lock(paths: StorePaths, patience: float) -> Iterator[None]:
    """Hold the side lock, which keeps two writers of ours from replacing the file under each other."""
    lock = Lock(paths.database_lock)
    lock.acquire(f"process {os.getpid()}", patience=patience)
    with lock:
        yield


def _update(
    paths: StorePaths, keys: Iterable[str] | None, report: IngestReport, patience: float
) -> bool:
    """Load what is new. Returns False where the file has to be created anew instead."""
    pending: list[str] | None = None
    try:
        while pending is None or pending:
            with _writable(paths.database, patience) as connection:
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
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        report.notes.append(f"{incomplete(paths.database, error)}: made anew from the files")
        return False
    return True


@contextlib.contextmanager
def _writable(database: Path, patience: float) -> Iterator[Connection]:
    """Open the database for writing; where readers hold it, a copy that takes its place at the end.

    Readers may come so often that it is never free. Raises StoreBusy where another writer holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(opened(database, write=True, patience=patience))
        except StoreBusy:
            connection = stack.enter_context(_copied(database))
        yield connection


@contextlib.contextmanager
def _copied(database: Path) -> Iterator[Connection]:
    with replacing(database) as temporary, _without_wal(temporary):
        with opened(
            database, write=False, patience=0.0
        ):  # says that no writer has it, and keeps them out
            files.disk.copy(database, temporary)
            if files.disk.exists(_wal(database)):
                files.disk.copy(_wal(database), _wal(temporary))
        with opened(temporary, write=True, patience=0.0) as connection:
            yield connection
        files.disk.unlink(_wal(database), missing_ok=True)  # the copy has what was in it


def remove(paths: StorePaths, patience: float = 5.0) -> None:
    """Remove the database: whoever reads it next makes it anew. Raises StoreBusy where it is being written."""
    with _write_lock(paths, patience):
        for path in (paths.database, _wal(paths.database)):
            files.disk.unlink(path, missing_ok=True)


def fill(
    paths: StorePaths,
    connection: Connection,
    report: IngestReport,
    progress: Progress = silent,
) -> None:
    """Make all tables in an empty database, and load the whole store; `progress` hears as of `rebuild`."""
    schema.create(connection)
    loader = Loader(paths, connection, report)
    loader.load_plans_and_runs()
    pending = loader.pending(None)
    with without_collector():
        for start in range(0, len(pending), BATCH):
            loader.load_stages(pending[start : start + BATCH])
            progress("stages read", min(start + BATCH, len(pending)), len(pending))


def _rebuild(
    paths: StorePaths, report: IngestReport, patience: float, progress: Progress = silent
) -> None:
    # Before as well as after: to find the file held after a minute's work would be in vain.
    _close_old(paths.database, report, patience)
    with replacing(paths.database) as temporary, _without_wal(temporary):
        with opened(temporary, write=True, patience=patience) as connection:
            fill(paths, connection, report, progress)
        _close_old(paths.database, report, patience)


@contextlib.contextmanager
def _without_wal(database: Path) -> Iterator[None]:
    """Remove the write-ahead log of a new file at the end: where the disk is full, DuckDB leaves it behind."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            files.disk.unlink(_wal(database), missing_ok=True)


def _close_old(database: Path, report: IngestReport, patience: float) -> None:
    """Make sure that nobody writes the old file, and fold its write-ahead log in, which DuckDB would take for the new
    file's. Readers keep the file that they have open.

    Raises StoreBusy where another writer holds it.
    """
    if not files.disk.exists(database):
        files.disk.unlink(_wal(database), missing_ok=True)
        return
    try:
        with opened(database, write=True, patience=patience) as connection:
            connection.execute("CHECKPOINT")
    except StoreBusy:
        with opened(database, write=False, patience=0.0):
            pass
        files.disk.unlink(_wal(database), missing_ok=True)
    except DiskError:
        raise
    except (StoreError, duckdb.Error) as error:  # damaged, or another program's
        report.notes.append(f"{error}; {_set_aside(database)}")


def _wal(database: Path) -> Path:
    return database.with_name(database.name + ".wal")


def _set_aside(database: Path) -> str:
    """Rename a damaged file and its write-ahead log. Returns a phrase with the new name."""
    now = time.time()
    if files.disk.exists(_wal(database)):
        set_aside(_wal(database), now)
    return f"set aside as {set_aside(database, now).name}"
