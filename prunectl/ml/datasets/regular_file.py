"""Opens files of data, and nothing else: reading a FIFO would wait for ever, and a device may have no end.

Links are followed. Free of torch and numpy.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

AnyPath = str | os.PathLike[str]

_KINDS = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind(path: AnyPath) -> str | None:
    """Return ``file``, ``folder``, in words what is neither, as "a FIFO"; None where nothing is."""
    try:
        return kind_of(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return "a link that leads nowhere" if os.path.islink(path) else None
    except OSError as error:
        return unreadable(error)


def kind_of(mode: int) -> str:
    """Return what `kind` does of a file that has this mode (`st_mode`)."""
    return next((what for test, what in _KINDS if test(mode)), "neither file nor folder")


def unreadable(error: OSError) -> str:
    """Say what is at a path that the system refuses to look at."""
    if error.errno == errno.ELOOP:
        return "a link in a circle"
    return f"unreadable: {error.strerror or error}"


def open_file(path: AnyPath) -> BinaryIO:
    """Open a file for reading. Raises OSError, whose `strerror` names what it is where it is none."""
    # Looked at before it is opened, because opening some devices does something.
    _refuse(os.stat(path).st_mode, path)
    # Another may take its place in between, and opening a FIFO waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _refuse(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(path: Path, most: int) -> bytes:
    """Return a file's content. Raises OSError as `open_file` does, ValueError where it has more than `most` bytes."""
    with open_file(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"more than {most:,} bytes")
    return data


def _refuse(mode: int, path: AnyPath) -> None:
    what = kind_of(mode)
    if what != "file":
        raise OSError(
            errno.EINVAL, f"is {'a folder' if what == 'folder' else what}", os.fspath(path)
        )
