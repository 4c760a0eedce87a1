"""Runs in the background: the same command as a process of its own, of no terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from prunectl.errors import StoreError

if TYPE_CHECKING:
    from prunectl.store.paths import StorePaths


def on_terminal() -> bool:
    """Whether the terminal UI can be opened."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def background(paths: StorePaths) -> str:
    """Start this very command again as a process of its own, in the foreground of no terminal; a line about it.

    Returns once it has the store. Raises StoreError with the end of its log where it ends before.
    """
    import subprocess

    from prunectl.store import requests as control

    log = paths.logs / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [word for word in sys.argv[1:] if word not in ("--detach", "--tui")]
    command = [sys.executable, "-m", "prunectl.cli", *arguments, "--plain"]
    with log.open("ab") as out:
        start = out.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    while not control.alive(paths):
        if process.poll() is not None:
            said = log.read_bytes()[start:].decode(errors="replace").strip()
            if process.returncode == 0:
                return said
            raise StoreError(f"the run ended at once (status {process.returncode}): {said[-2000:]}")
        time.sleep(0.05)
    return f"running in the background, pid {process.pid}, log {log}; `prunectl stop` stops it"
