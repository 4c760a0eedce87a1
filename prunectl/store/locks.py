"""Locks that the kernel releases when their process dies.

Open-file-description locks (Linux): unlike POSIX record locks they survive another open and close of the file in
the same process, and unlike flock they can be asked about (F_OFD_GETLK) without being taken for a moment, so that
a reader such as `status` never makes a worker's own attempt fail.
"""

from __future__ import annotations

import getpass
import os
import time
from pathlib import Path

from prunectl.errors import StoreBusy
from prunectl.store import files, refusals

RETRY_SECONDS = 0.01
"""Between attempts to take a lock that another holds."""


class Lock:
    """An exclusive lock on a file, held until `release`, or until the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._handle is not None

    def acquire(self, note: str = "", *, patience: float = 0.0) -> None:
        """Take the lock and write `note` into the file for people to read.

        Raises StoreBusy where another holds it for `patience` seconds, StoreError where the file cannot be made.
        """
        deadline = time.monotonic() + patience
        while not self.held:
            try:
                self._take(note)
            except StoreBusy:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def _take(self, note: str) -> None:
        try:
            files.disk.make_folder(self.path.parent)
            self._handle = files.disk.lock(self.path, note)
        except BlockingIOError as error:
            by = f" by {error.strerror}" if error.strerror else ""
            raise StoreBusy(f"{self.path} is locked{by}") from error
        except OSError as error:
            raise refusals.cannot_write(self.path, error) from error

    def release(self) -> None:
        """Release the lock; the file stays."""
        if self._handle is not None:
            files.disk.unlock(self._handle)
            self._handle = None

    def __enter__(self) -> Lock:
        if not self.held:
            self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_held(path: Path | str) -> bool:
    """Return whether some process holds the lock now, without taking it."""
    return files.disk.is_locked(path)


def process_name() -> str:
    """Return who asks, for people to read in a lock or a request: the user and this process's id."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        user = f"uid {os.getuid()}"
    return f"{user}, pid {os.getpid()}"
