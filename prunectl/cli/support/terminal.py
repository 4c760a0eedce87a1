"""Writing to stderr, also where the terminal was closed during a run: writing fails then, and must not end the run."""

from __future__ import annotations

import os
import stat

import typer


def narrate(text: str) -> None:
    """Write a line to stderr. stdout is for data alone."""
    typer.echo(text, err=True)


def leave_if_closed() -> None:
    """Point stdout and stderr to /dev/null where their terminal is gone."""
    for descriptor in (1, 2):
        if _is_closed_terminal(descriptor):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


def _is_closed_terminal(descriptor: int) -> bool:
    """Check for a terminal that hung up: still a character device, but no longer answering as a terminal."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    if not stat.S_ISCHR(status.st_mode) or os.isatty(descriptor):
        return False
    return status.st_rdev != os.stat(os.devnull).st_rdev
