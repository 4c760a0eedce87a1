"""A run in the background: the same command again, as a process of its own session without a terminal."""

from __future__ import annotations

import sys
import time

from prunectl.child import module_command
from prunectl.errors import StoreError
from prunectl.store.paths import StorePaths


def on_terminal() -> bool:
    """Check whether the terminal UI can be opened: Textual reads stdin and draws on stderr."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def background(paths: StorePaths) -> str:
    """Start this very command again with `--plain`, in a session of its own; wait until it has the store's lock.

    Returns a line about it. Raises StoreError with the end of its log where it ends before.
    """
    import subprocess

    from prunectl.store import requests

    log = paths.logs / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [word for word in sys.argv[1:] if word != "--detach"]
    # Whoever started it was asked.
    command = [*module_command("prunectl.cli"), *arguments, "--plain", "--yes"]
    with log.open("ab") as out:
        start = out.tell()
        # A session of its own: the terminal's SIGHUP and Ctrl-C do not reach it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    while not requests.alive(paths):
        if process.poll() is not None:
            output = log.read_bytes()[start:].decode(errors="replace").strip()
            if process.returncode == 0:  # done before the first look
                return output
            raise StoreError(
                f"the run ended at once (status {process.returncode}): {output[-2000:]}"
            )
        time.sleep(0.05)
    return f"running in the background, pid {process.pid}, log {log}; `prunectl stop` stops it"
