"""Counting the signals that ask to stop: once to stop gracefully, twice to stop now."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_SECONDS = 0.3
"""A closing terminal's SIGHUP comes from the kernel and from the shell: twice within this time is once."""


class Signals:
    """Counts the signals that ask to stop, as a context manager; outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.count = 0
        self.last: signal.Signals | None = None
        # A pipe that becomes readable wakes the loop from its wait for workers.
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)
        self._before: dict[int, Any] = {}
        self._when = 0.0

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # started under nohup
                self._before[number] = signal.signal(number, self._caught)
        return self

    def _caught(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.last == number and now - self._when < SAME_SECONDS:
            return
        self.last, self._when = signal.Signals(number), now
        self.count += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def drain(self) -> int:
        """Empty the pipe that wakes the loop. Returns how often signals have asked to stop."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 1024)
        return self.count

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.reader)
        os.close(self._writer)
