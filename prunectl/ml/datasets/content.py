"""What files hold, as digests: each file is read once and remembered, so that asking again costs a look at it.

The memory is one SQLite file in the user's cache, which any number of processes share. An entry is good as long as the
file is the same one (device and inode) and neither its size nor its times of change have moved; the time of the inode's
change cannot be set back by a program, so that a file edited under its old size and time is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from prunectl.errors import DataError
from prunectl.ml.datasets.files import Progress, user_cache
from prunectl.ml.datasets.inflate import gunzipped
from prunectl.ml.datasets.regular_file import AnyPath, open_file

CHUNK_BYTES = 1 << 20
MOST_BYTES = 2 << 30
"""Of one file: more than any picture has that Pillow decodes (179 megapixels of 8 bytes), and read in seconds."""
SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again within the same tick of its file system's
clock (2 s on FAT, 10 ms on ext4): it is not remembered."""
TELL_SECONDS = 2.0
"""Between two lines of progress."""


@dataclass(frozen=True)
class Content:
    """How the bytes of a file become the content that its digest is of."""

    name: str
    read: Callable[[Path, int], Iterator[bytes]]
    """Yields the content in pieces. Raises ValueError where it is more than so many bytes."""


def _as_it_is(path: Path, most: int) -> Iterator[bytes]:
    size = 0
    with open_file(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            size += len(chunk)
            if size > most:
                raise ValueError(_too_large(most))
            yield chunk


def _too_large(most: int) -> str:
    return f"holds more than {most:,} bytes"


BYTES = Content("bytes", _as_it_is)
GUNZIPPED = Content("gunzipped", gunzipped)


_ALL: ContextVar[bool] = ContextVar("reading all", default=False)


@contextlib.contextmanager
def reading_all() -> Iterator[None]:
    """Within it all files are read whose digests are asked for, whatever is remembered of them."""
    before = _ALL.set(True)
    try:
        yield
    finally:
        _ALL.reset(before)


def digests(
    paths: Sequence[AnyPath],
    progress: Progress | None = None,
    *,
    most: int = MOST_BYTES,
    content: Content = BYTES,
    algorithm: str = "sha256",
    what: str = "files",
) -> list[str]:
    """Return the digest of each file's content, in hex.

    Files that are not remembered are read, and `progress` hears of it every few seconds; within `reading_all` all are.
    Raises DataError for one that cannot be read, is no file, or has or holds more than `most` bytes.
    """
    kind = f"{algorithm}-{content.name}"
    found: list[str] = []
    teller = Teller(progress, len(paths), what)
    with _memory() as memory:
        for path in paths:
            try:
                before = _stamp(path)
                if (
                    before[2] > most
                ):  # said before it is read: a sparse file of any size takes no disk
                    raise ValueError(_too_large(most))
                digest = None if _ALL.get() else memory.get(kind, before)
                if digest is None:
                    digest = _digest(Path(path), content, algorithm, most)
                    teller.has_read(before[2])
                    if _stamp(path) == before and time.time_ns() - before[4] > SETTLED_NS:
                        memory.put(kind, before, digest)
            except (OSError, EOFError, ValueError, zlib.error) as error:
                text = error.strerror if isinstance(error, OSError) and error.strerror else error
                raise DataError(f"{os.fspath(path)}: {text}") from error
            found.append(digest)
            teller.tell(len(found))
    return found


def _digest(path: Path, content: Content, algorithm: str, most: int) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for chunk in content.read(path, most):
        digest.update(chunk)
    return digest.hexdigest()


Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of change of content and inode, ns."""


def _stamp(path: AnyPath) -> Stamp:
    about = os.stat(path)
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


class _Memory:
    """The digests that are remembered; without a connection none are."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection
        self._new: list[tuple[object, ...]] = []

    def get(self, kind: str, stamp: Stamp) -> str | None:
        """Return the digest of the file that looked so, if it is known."""
        if self._connection is None:
            return None
        device, inode, *rest = stamp
        try:
            row = self._connection.execute(
                "SELECT size, mtime, ctime, digest FROM digests WHERE kind = ? AND device = ? AND inode = ?",
                (kind, _signed(device), _signed(inode)),
            ).fetchone()
        except sqlite3.Error:  # damaged, or held by another process for too long
            return None
        return None if row is None or list(row[:3]) != rest else str(row[3])

    def put(self, kind: str, stamp: Stamp, digest: str) -> None:
        """Remember a digest; written by thousands, because each transaction waits for the disk."""
        device, inode, *rest = stamp
        self._new.append((kind, _signed(device), _signed(inode), *rest, digest))
        if len(self._new) >= 4096:
            self.write()

    def write(self) -> None:
        """Write what is new; what cannot be written is read again the next time."""
        if self._connection is not None and self._new:
            with contextlib.suppress(sqlite3.Error), self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?, ?)", self._new
                )
        self._new.clear()


def _signed(number: int) -> int:
    """SQLite's integers are signed, inodes of some file systems use all 64 bits."""
    return number - (1 << 64) if number >= 1 << 63 else number


@contextlib.contextmanager
def _memory() -> Iterator[_Memory]:
    """Open the memory; one that remembers nothing where the cache cannot be used."""
    connection: sqlite3.Connection | None = None
    try:
        folder = user_cache()
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / "digests.sqlite", timeout=10)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS digests (kind TEXT, device INTEGER, inode INTEGER, size INTEGER,"
            " mtime INTEGER, ctime INTEGER, digest TEXT, PRIMARY KEY (kind, device, inode)) WITHOUT ROWID"
        )
    except (OSError, RuntimeError, sqlite3.Error):  # RuntimeError: the user has no home
        if connection is not None:
            connection.close()
        connection = None
    memory = _Memory(connection)
    try:
        yield memory
    finally:
        memory.write()
        if connection is not None:
            connection.close()


class Teller:
    """Says how far reading is, at most every `TELL_SECONDS`."""

    def __init__(self, progress: Progress | None, count: int, what: str) -> None:
        self._progress, self._count, self._what = progress, count, what
        self._told = time.monotonic()
        self._bytes = 0

    def has_read(self, size: int) -> None:
        """Count what was read and not remembered."""
        self._bytes += size

    def tell(self, number: int) -> None:
        """Say how many of the files are done, if there was something to read and the last word is old enough."""
        now = time.monotonic()
        if self._progress is None or not self._bytes or now - self._told < TELL_SECONDS:
            return
        self._told = now
        self._progress(
            f"reading {self._what}: {number:,} of {self._count:,}, {self._bytes / 1e6:,.0f} MB"
        )
