"""Locks that the kernel releases when their process dies.

Open-file-description locks (Linux): unlike POSIX record locks they survive another open and close of the file in
the same process, and unlike flock they can be asked about (F_OFD_GETLK) without being taken for a moment, so that
a reader such as `status` never makes a worker's own attempt fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import struct
import time
from pathlib import Path

from prunectl.errors import StoreBusy
from prunectl.store.files import cannot_write

# struct flock on 64-bit Linux: short l_type, short l_whence, off_t l_start, off_t l_len, pid_t l_pid (0 for OFD).
_FLOCK = "hhqqi4x"

RETRY_SECONDS = 0.01
"""Between attempts to take a lock that another holds."""


class Lock:
    """An exclusive lock on a file, held until `release`, or until the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

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
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _open(self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            fcntl.fcntl(
                descriptor,
                fcntl.F_OFD_SETLK,
                struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0),
            )
        except OSError as error:
            held_by = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise StoreBusy(
                f"{self.path} is locked{f' by {held_by}' if held_by else ''}"
            ) from error
        if note:
            with contextlib.suppress(OSError):  # the lock is held all the same
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, note.encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Lock:
        if not self.held:
            self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _open(path: Path) -> int:
    """Open for writing, created if missing.

    An existing file is opened without O_CREAT, which Linux refuses for other users' files in sticky folders
    (fs.protected_regular), and never through a link: the note is written to it.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, 0o666)


def is_held(path: Path | str) -> bool:
    """Return whether some process holds the lock now, without taking it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):  # a ValueError is a name that no file can have
        return False
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


def process_name() -> str:
    """Return who asks, for people to read in a lock or a request: the user and this process's id."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        user = f"uid {os.getuid()}"
    return f"{user}, pid {os.getpid()}"
