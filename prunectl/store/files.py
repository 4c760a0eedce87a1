"""Write files so that a crash leaves either the old content or the new, never a mixture.

All writes, fsyncs and renames of the store go through `hook`, so that a test can stop the process at each.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from prunectl.errors import DiskError, StoreError

hook: Callable[[str, Path], None] | None = None
"""Called with ("write" | "fsync" | "rename", path) just before each of these; for fault injection."""


def call_hook(action: str, path: Path) -> None:
    """Call the hook, if one is set."""
    if hook is not None:
        hook(action, path)


DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of the disk rather than of one file."""


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Make the error for a file that cannot be written: a DiskError where no other file could be either."""
    kind = DiskError if error.errno in DISK_ERRNOS else StoreError
    return kind(f"cannot write {path}: {error.strerror or error}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; fsync it and rename it over `path` at the end.

    Raises StoreError where the folder cannot be written, DiskError where the disk is full; nothing is left behind
    then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        call_hook("write", path)
        yield temporary
        _fsync(path, temporary)
        call_hook("rename", path)
        os.replace(temporary, path)
        _fsync(path.parent, path.parent)  # the rename is durable only with its folder
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _fsync(path: Path, file: Path) -> None:
    """Sync a file or folder to the disk; the hook is called with `path`."""
    call_hook("fsync", path)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def leftovers(folder: Path) -> list[Path]:
    """List temporary files of `replacing` in the folder: left by a killed process, or being written by a living one."""
    return sorted(folder.glob(".*.tmp"))


def write_text(path: Path, text: str) -> None:
    """Replace the file's content atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
