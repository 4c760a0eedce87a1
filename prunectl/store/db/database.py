"""Open results.duckdb: briefly, with bounded retries, and with every way it can fail told apart.

One process that holds the file read-write keeps all others out, and a reader keeps the writer out, so whoever
opens it closes it within milliseconds and whoever finds it held waits a little and tries again.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb

from prunectl.errors import DiskError, StoreBusy, StoreError
from prunectl.store import files, refusals
from prunectl.store.files import Status

RETRY_SECONDS = (0.005, 0.020)
"""Between attempts, drawn evenly: two processes that wait for each other must not stay in step."""

Connection = duckdb.DuckDBPyConnection
Row = tuple[Any, ...]
Opened = TypeVar("Opened")


class Damaged(StoreError):
    """The file is not a database, its content does not match its checksums, or tables are missing."""


def incomplete(path: Path, error: duckdb.Error) -> Damaged:
    """Make the error for a file of this version in which a statement of ours found no table or column."""
    return Damaged(f"{path} lacks what it was made with ({str(error).splitlines()[0]})")


WRITER = {
    "threads": "1",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
}
READER = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "lock_configuration": "true",
}
"""`BEGIN TRANSACTION READ ONLY` is no sandbox, this is: no files, no network, no settings."""


_HELD = (
    "Could not set lock",  # by another process
    "different configuration",  # by this one, the other way
    "Unique file handle conflict",  # by another thread, which is just opening or closing it
    "database does not exist",  # being replaced: whoever asks has seen it a moment ago
)
"""What DuckDB says where the file is held for a moment."""

_DAMAGED = re.compile(
    r"[Cc]orrupt|[Cc]hecksum|Could not read enough bytes|Failed to (load|scan|read)"
)
"""What it says, in errors of the classes that mistakes of a query have, of a file that is not what it was."""
_OF_THE_FILE = (
    duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException, duckdb.IOException,
)  # fmt: skip
"""Errors that no mistake of a query makes: the files that a query may read are none but the database."""

_REFUSED = re.compile("|".join(map(re.escape, refusals.WORDS)))
"""What it says, in errors of any class, where the system refuses: the file is as good as before."""


@contextlib.contextmanager
def opened(path: Path, *, write: bool, patience: float) -> Iterator[Connection]:
    """Connect to the file and close it at the end; wait up to `patience` seconds for whoever holds it.

    Raises StoreBusy where it stays held, Damaged where it cannot be read, also because a newer DuckDB or another
    program wrote it, StoreError where writing fails (a full disk); duckdb.Error for the mistakes of a query.
    """
    config = WRITER if write else READER
    _check_kind(path)
    connection = _patiently(
        path,
        patience,
        lambda: duckdb.connect(str(path), read_only=not write, config=dict(config)),
    )
    try:
        with telling_damage(path):
            yield connection
    except duckdb.Error as error:
        of_writing = isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException)
        if write and (of_writing or _REFUSED.search(str(error))):
            raise _error("write", path, str(error)) from error
        raise
    finally:
        connection.close()


def _check_kind(path: Path) -> None:
    """Raise Damaged for what is no file: a pipe would keep DuckDB waiting.

    It is not opened: when this process closes a file it loses DuckDB's lock on it, whatever has it open besides.
    """
    if files.disk.exists(path) and not files.disk.is_file(path):
        raise Damaged(f"{path} is no file")


@contextlib.contextmanager
def attached(connection: Connection, path: Path, name: str, *, patience: float) -> Iterator[None]:
    """Attach the file to a connection under a name, to be read, and detach it at the end.

    Raises as `opened`.
    """
    _check_kind(path)
    target = str(path).replace("'", "''")
    attach = f"ATTACH '{target}' AS {name} (READ_ONLY)"
    _patiently(path, patience, lambda: connection.execute(attach))
    try:
        with telling_damage(path):
            yield
    finally:
        connection.execute(f"DETACH {name}")


@contextlib.contextmanager
def telling_damage(path: Path) -> Iterator[None]:
    """Raise Damaged where a statement fails because of the file."""
    try:
        yield
    except duckdb.Error as error:
        if is_damage(error):
            raise Damaged(f"{path} is damaged: {error}") from error
        raise


def _patiently(path: Path, patience: float, attempt: Callable[[], Opened]) -> Opened:
    """Open the file by `attempt`, again and again for as long as it is held. Raises as `opened`."""
    deadline = time.monotonic() + patience
    while True:
        before = _status(path)
        try:
            return attempt()
        except duckdb.Error as error:
            text = str(error)
            # Another may have taken its place, and a writer of that has a write-ahead log that is not of this one.
            replaced = _status(path) != before
            if not replaced and not any(sign in text for sign in _HELD):
                raise _unusable(path, text) from error
            if time.monotonic() >= deadline:
                holder = re.search(r"held in (.*?\(PID \d+\))", text)
                by = f" by {holder[1]}" if holder else ""
                raise StoreBusy(f"{path} is held{by}; close what has it open") from error
        time.sleep(random.uniform(*RETRY_SECONDS))


def _status(path: Path) -> Status | None:
    try:
        return files.disk.status(path)
    except OSError:
        return None


def _unusable(path: Path, text: str) -> StoreError:
    """Make the error for a file that cannot be opened, other than because it is held."""
    if found := re.search(r"storage version number (\d+), but .* and (\d+)", text):
        return Damaged(
            f"{path} was written by a newer DuckDB (storage version {found[1]}; DuckDB "
            f"{duckdb.__version__} reads up to {found[2]})"
        )
    if _REFUSED.search(text):
        return _error("open", path, text)
    # Whatever else it says: the file is not what it was, or another program's.
    return Damaged(f"{path} is damaged: {text.splitlines()[0]}")


def _error(action: str, path: Path, text: str) -> StoreError:
    """Make the error for a file that cannot be opened or written, of the class that what DuckDB says calls for."""
    if found := _REFUSED.search(text):
        remedy = refusals.REMEDIES[refusals.WORDS[found[0]]]
        return DiskError(f"cannot {action} {path}: {text}; {remedy}")
    return StoreError(f"cannot {action} {path}: {text}")


def is_damage(error: duckdb.Error) -> bool:
    """Return whether a query failed because of the file and not because of the query."""
    text = str(error)
    of_the_file = isinstance(error, _OF_THE_FILE) or _DAMAGED.search(text) is not None
    return of_the_file and not _REFUSED.search(text)


def upsert(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Row],
    *,
    new: bool = False,
) -> None:
    """Insert rows, or overwrite these columns of the rows that have the same primary key.

    `new` rows are known to have no such row: to insert them takes 40 % of the time.

    Their values fit the columns' types: what comes from records is within `spec.ranges`.
    """
    rows = list(rows)
    if not rows:
        return
    action: Literal["insert", "upsert"] = "insert" if new else "upsert"
    with connection.appender(table, columns=list(columns), action=action) as appender:
        appender.append_rows(rows)


def first_column(connection: Connection, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """Return the first column of the answer to a query."""
    # fetchall and not fetchone: a result that is not read to its end keeps the connection busy.
    return [row[0] for row in connection.execute(query, parameters).fetchall()]
