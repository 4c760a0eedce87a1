"""Writing to stdout and stderr: whatever they can show and whoever still reads, a command does its work to the end."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

import typer

from prunectl.errors import DiskError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2


def narrate(text: str) -> None:
    """Write a line to stderr. stdout is for data alone."""
    typer.echo(text, err=True)


class Counts:
    """Tells how far work on many things is: a line to stderr every few seconds, so that what is short says nothing."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say how many of all are done, `what` being done with what ("stages checked")."""
        now = time.monotonic()
        if now - self._last >= self._seconds and done < total:
            self._last = now
            narrate(f"{what}: {done} of {total}")


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Within it, stdout and stderr take whatever is written to them.

    What their encoding cannot show becomes ``?``. What is written after the reader of a pipe has gone (``| head``), or
    a terminal has hung up, goes nowhere; so does what is written to one that was closed from the start. Where stderr
    cannot be written for another reason, as on a full disk, the text is lost and the command goes on.

    Raises DiskError, once, where that happens to stdout.
    """
    for descriptor in (0, STDOUT, STDERR):
        # Else the next file that is opened would have its number, and be written to by a library's messages.
        _open_if_closed(descriptor)
    before = sys.stdin, sys.stdout, sys.stderr
    for stream in before[1:]:
        if stream is not None:
            stream.flush()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - closed by nobody, as any stdin
    sys.stdout, sys.stderr = _lasting(STDOUT, sys.stdout), _lasting(STDERR, sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        _lead_nowhere(descriptor)


def _lead_nowhere(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == descriptor:
        os.set_inheritable(null, True)  # by child processes, as dup2's are
    else:
        os.dup2(null, descriptor)
        os.close(null)


def _lasting(descriptor: int, stream: TextIO | None) -> TextIO:
    """Make a stream for the descriptor, otherwise like the `stream` that Python has made; None where it made none."""
    return _Stream(
        io.BufferedWriter(_Outlet(descriptor)),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="replace",
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )


class _Outlet(io.FileIO):
    """Writes to a descriptor, and nowhere once its reader has gone."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._gone = {errno.EPIPE, errno.EIO} if self.isatty() else {errno.EPIPE}

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            gone = error.errno in self._gone
            if gone or self.fileno() == STDOUT:
                _lead_nowhere(self.fileno())
            if not gone and self.fileno() == STDOUT:
                raise DiskError(f"cannot write to stdout: {error.strerror}") from error
            return memoryview(data).nbytes


class _Stream(io.TextIOWrapper):
    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding's name. ASCII is given another's: typer takes it for a mistake, and writes UTF-8 instead."""
        name = super().encoding
        return "iso8859-1" if codecs.lookup(name).name == "ascii" else name
