"""Cleanup when a bench is ended early: it leaves no folder and no process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from prunectl.errors import ExitCode
from prunectl.scheduler.parent_death import adopt_orphans

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Turn signals that end the process into an orderly end.

    They kill the processes started inside, and those that these started, and then unwind the stack, so that folders
    are removed once nothing writes to them. Raises SystemExit then, with the exit status of an interruption.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    others = set(children())

    def caught(number: int, frame: FrameType | None) -> None:
        _ignore()  # a second one must not stop the cleanup
        end(others)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, caught) for number in ENDING}
    adopt_orphans(True)  # what a child has started comes to this process when the child ends
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
    finally:
        _ignore()
        end(others)
        adopt_orphans(False)
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def children() -> list[int]:
    """Return the ids of the processes that this one has to wait for."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


END_SECONDS = 30.0
"""For killed processes to end: one that waits in a driver or on a lost disk may never, and is left behind."""


def end(spared: set[int]) -> None:
    """Kill all children but these, and their descendants as this process adopts them."""
    deadline = time.monotonic() + END_SECONDS
    while (
        left := [pid for pid in children() if pid not in spared]
    ) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)
