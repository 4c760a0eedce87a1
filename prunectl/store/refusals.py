"""What the system refuses: no permission, a full or failing disk, too many open files, and what to do about it.

None of it says anything of a file's content: what is refused is neither damaged nor missing. A `DiskError` is made of
it, which ends a run; once that is mended the same command goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from pathlib import Path

from prunectl.errors import DiskError, StoreError

REMEDIES = {
    errno.EACCES: "see README, A store for a group",
    errno.EPERM: "see README, A store for a group",
    errno.EROFS: "mount the file system for writing, or give another --store",
    errno.EMFILE: "allow this process more open files: ulimit -n 4096",
    errno.ENFILE: "the whole system has too many files open: close some programs",
    errno.ENOSPC: "free some space or inodes; `prunectl store gc` removes what nothing needs",
    errno.EDQUOT: "free some of your quota; `prunectl store gc` removes what nothing needs",
    errno.EIO: "the disk or its connection fails: `dmesg` says more",
    errno.ESTALE: "the network file system has lost the file: mount it again",
}
"""What to do about errors of the system rather than of a file's content: none of them says that it is damaged."""

WORDS = {os.strerror(number): number for number in REMEDIES}
"""How the system words them, which is all that some libraries pass on."""


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Make the error for a file that cannot be written: a DiskError where no other file could be either."""
    return _refusal("write", path, error)


def cannot_read(path: Path, error: OSError) -> StoreError:
    """Make the error for a file that cannot be read: a DiskError where that says nothing of what is in it."""
    return _refusal("read", path, error)


def is_refusal(error: BaseException) -> bool:
    """Return whether an error is one of the system, which `refused` words."""
    return isinstance(error, OSError) and error.errno in REMEDIES


def refused(error: OSError) -> StoreError:
    """Make the error for an operation that the system refuses, on whatever file it names."""
    return _refusal("use", Path(os.fsdecode(error.filename or "a file")), error)


def _refusal(action: str, path: Path, error: OSError) -> StoreError:
    text = f"cannot {action} {path}: {error.strerror or error}"
    remedy = REMEDIES.get(error.errno or 0)
    if remedy is None:
        return StoreError(text)
    if error.errno in (errno.EACCES, errno.EPERM):
        text += _owner(path)
    return DiskError(f"{text}; {remedy}")


def _owner(path: Path) -> str:
    """Say whose the file is, or the nearest folder above it that can be looked at; nothing where none can."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            found = place.stat()
            what = "it" if place == path else str(place)
            return f" ({what} is {_user(found.st_uid)}'s, {stat.filemode(found.st_mode)})"
    return ""


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # of another machine, or no such user in a container
        return f"user {uid}"
