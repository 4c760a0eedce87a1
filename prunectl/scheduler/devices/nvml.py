"""How busy CUDA devices are, without ever waiting for NVML: a child process asks it (`nvml_child`).

A driver in trouble lets a call of NVML hang for ever, which must not happen to the scheduler's loop. So each look at
the usage asks the child and waits for a moment, and none waits for an answer that another one did not get. Only the
first look at each device has more patience, because the number of slots begins with it. A child that does not answer
is killed, and one that ended is replaced, after a pause that grows; meanwhile the last answer stands, with its age.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from prunectl.child import module_command
from prunectl.scheduler.devices.base import Usage
from prunectl.scheduler.parent_death import dies_with_us

COMMAND = module_command("prunectl.scheduler.devices.nvml_child")
FIRST_SECONDS = 5.0
"""That all first looks together wait: loading the library takes 0.1 s where the driver is up."""
START_SECONDS = 60.0
"""For a child's first answer: without persistence mode the driver starts anew, some seconds for each device."""
ANSWER_SECONDS = 10.0
"""For each one after it."""
PAUSE_SECONDS = (5.0, 300.0)
"""Before the next child: at first, and at most. Doubled from child to child until one answers."""
CLOSE_SECONDS = 1.0
"""For a killed child to end; one that a broken driver holds in the kernel may take for ever."""
BRIEF_SECONDS = 0.1
"""That a later look waits for the answer to what it asked itself: some milliseconds for each device."""
FRESH_SECONDS = 0.2
"""An answer younger than this is not asked for again: a heartbeat looks at all devices."""
READ_BYTES = 65536


class NvmlMonitor:
    """The child process and its last answer."""

    def __init__(self, environment: Mapping[str, str], command: Sequence[str] = COMMAND) -> None:
        """Start nothing yet; `command` starts the child."""
        self._environment = environment
        self._command = command
        self._uuids: list[str] = []
        self._answer: dict[str, Usage] = {}
        self._measured = 0.0
        """When the last answer was asked for: it is no older. Monotonic seconds, as all times here."""
        self._child: subprocess.Popen[bytes] | None = None
        self._asked: float | None = None
        """When the child was asked what it has not answered yet."""
        self._answered = False
        """The child has answered before."""
        self._buffer = b""
        self._next_start = 0.0
        self._pause = PAUSE_SECONDS[0]
        self._deadline: float | None = None
        """Until when the first look at each device waits at the most."""
        self._dying: list[subprocess.Popen[bytes]] = []

    def usage(self, uuid: str) -> Usage:
        """Return how busy a device was lately, and how long ago that was; nothing where NVML has not answered."""
        first = uuid not in self._uuids
        if first:
            self._uuids.append(uuid)
        if self._tend(first):
            now = time.monotonic()
            self._deadline = self._deadline or now + FIRST_SECONDS
            self._await_answer(self._deadline if first else now + BRIEF_SECONDS)
        found = self._answer.get(uuid)
        if found is None:
            return Usage()
        return replace(found, age=time.monotonic() - self._measured)

    def close(self) -> None:
        """End the child."""
        self._end_child()
        for child in self._dying:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(CLOSE_SECONDS)
        self._dying = [child for child in self._dying if child.poll() is None]
        self._next_start = float("inf")

    def _await_answer(self, deadline: float) -> None:
        """Wait until the child has answered or ended, or until the deadline."""
        while self._child is not None and self._asked is not None:
            left = deadline - time.monotonic()
            assert self._child.stdout is not None
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                return
            self._read()

    def _tend(self, first: bool) -> bool:
        """Start, hear, ask or kill the child, whichever is due. Returns whether it was asked.

        `first`: of a device that it was not asked for yet.
        """
        self._dying = [child for child in self._dying if child.poll() is None]
        now = time.monotonic()
        if self._child is None:
            return now >= self._next_start and self._start()
        self._read()
        if self._child is None:
            return False
        if self._asked is None:
            due = first or now - self._measured >= FRESH_SECONDS
            return due and self._ask(now)
        if now - self._asked > (ANSWER_SECONDS if self._answered else START_SECONDS):
            self._give_up()
        return False

    def _start(self) -> bool:
        try:
            self._child = subprocess.Popen(
                dies_with_us([*self._command]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(self._environment),
                start_new_session=True,  # a terminal's Ctrl-C is the scheduler's
            )
        except OSError:
            self._give_up()
            return False
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdin.fileno(), False)
        os.set_blocking(self._child.stdout.fileno(), False)
        self._buffer, self._answered = b"", False
        return self._ask(time.monotonic())

    def _ask(self, now: float) -> bool:
        assert self._child is not None
        assert self._child.stdin is not None
        self._asked = now
        # A pipe that is full or broken belongs to a child that hangs or is dead: found out by its silence or its end.
        with contextlib.suppress(OSError):
            os.write(self._child.stdin.fileno(), msgspec.json.encode(self._uuids) + b"\n")
        return True

    def _read(self) -> None:
        """Take in what the child has said; give it up where it has ended."""
        assert self._child is not None
        assert self._child.stdout is not None
        try:
            data = os.read(self._child.stdout.fileno(), READ_BYTES)
        except BlockingIOError:
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        try:
            for line in lines:
                self._answer |= msgspec.json.decode(line, type=dict[str, Usage])
        except ValueError:
            data = b""
        if not data:
            self._give_up()
        elif lines and self._asked is not None:
            self._measured, self._asked = self._asked, None
            self._answered, self._pause = True, PAUSE_SECONDS[0]

    def _give_up(self) -> None:
        """Let there be another child, after a pause."""
        self._end_child()
        self._next_start = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, PAUSE_SECONDS[1])

    def _end_child(self) -> None:
        child, self._child, self._asked = self._child, None, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        child.kill()
        child.stdin.close()
        child.stdout.close()
        self._dying.append(child)
