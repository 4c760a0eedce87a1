"""One worker process: messages to it and from it, whether it lives, and its end.

A worker is the leader of a session of its own, so that a terminal's Ctrl-C reaches only the scheduler, which then asks
its workers to checkpoint. It dies with the scheduler: the kernel kills it (`parent_death`), and its input ends. What it
writes to stderr goes to a log, whose end explains a crash.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors import parent_death
from prunectl.store.records.base import encode
from prunectl.store.records.messages import (
    AnyCommand,
    AnyMessage,
    Beat,
    Ready,
    WorkerEnded,
    parse_message,
)

LOG_BYTES = 4 << 20
"""A worker's log longer than this is set aside when a worker starts."""
TAIL_BYTES = 4096
READ_BYTES = 65536
"""What a pipe holds: one read empties it."""
LAUNCH = (sys.executable, "-I", "-S", parent_death.__file__)
"""Isolated and without site-packages: it starts in 15 ms and runs nothing of the user's."""


@dataclass(eq=False)
class WorkerProcess:
    """A worker process and its stages."""

    number: int
    device: Device
    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    log: Path
    log_start: int
    """Bytes of the log that earlier processes wrote."""
    heard: float
    """When it last gave a sign of life, on the monotonic clock."""
    flags: tuple[str, bool] | None = None
    """torch's process-wide flags; fixed by its first stage."""
    workload: object = None
    """Of its last stage: what it has warm."""
    running: set[str] = field(default_factory=set)
    """Its stages."""
    progressed: float = 0.0
    """When its stages last got on; beats alone are no progress."""
    turns: int | None = None
    """Of its last beat: grows as its stages get on."""
    ready: bool = False
    retiring: bool = False
    """Takes no more stages and ends when it has none."""
    cause: str | None = None
    """Why the scheduler ended it."""
    _unsent: list[AnyCommand] = field(default_factory=list)
    _buffer: bytes = b""

    @classmethod
    def start(
        cls, number: int, device: Device, command: Sequence[str], log: Path, now: float
    ) -> WorkerProcess:
        """Start a worker that sees only the device.

        Raises:
            OSError: where no process can be started, or its log cannot be written.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as stderr:
            log_start = stderr.tell()
            process = subprocess.Popen(
                [*LAUNCH, str(os.getpid()), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **device.environment()},
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        # A worker that hangs must not block the scheduler's loop.
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        return cls(number, device, process, process.stdin, process.stdout, log, log_start, now)

    @property
    def pid(self) -> int:
        """Return its process id, which is its session's, too."""
        return self.process.pid

    @property
    def free(self) -> int:
        """Return the slots without a stage."""
        return 0 if self.retiring else self.device.slots_per_worker - len(self.running)

    def send(self, message: AnyCommand) -> None:
        """Send a line; kept until the worker is ready to read it."""
        if not self.ready:
            self._unsent.append(message)
            return
        # A pipe that is full or broken belongs to a worker that hangs or is dead: found out elsewhere.
        with contextlib.suppress(OSError, ValueError):
            self.stdin.write(encode(message) + b"\n")
            self.stdin.flush()

    def read(self, now: float) -> tuple[list[AnyMessage], bool]:
        """Return the complete messages that have come, and whether the worker closed its output."""
        try:
            data = os.read(self.stdout.fileno(), READ_BYTES)
        except BlockingIOError:
            return [], False
        except OSError:
            data = b""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        messages = [message for line in lines if (message := parse_message(line))]
        for message in messages:
            self.note_life(message, now)
            if isinstance(message, Ready):
                self.ready = True
                unsent, self._unsent = self._unsent, []
                for each in unsent:
                    self.send(each)
        return messages, not data

    def note_life(self, message: AnyMessage, now: float) -> None:
        """Take a message as a sign of life; a beat only where stages get on, or load what they need before their first
        step."""
        beat = message if isinstance(message, Beat) else Beat()
        if beat.turns is None or beat.turns != self.turns:
            self.heard = self.progressed = now
        elif beat.preparing:
            self.heard = now
        self.turns = beat.turns

    def retire(self) -> None:
        """Let the worker end as soon as it has no stage."""
        self.retiring = True
        if not self.running:
            self.dismiss()

    def dismiss(self) -> None:
        """Let an idle worker end."""
        self.cause = self.cause or "retired"
        self.end_input()

    def end_input(self) -> None:
        """Close its input, which ends it; a busy one drops everything."""
        with contextlib.suppress(OSError, ValueError):
            self.stdin.close()

    def kill(self, cause: str | None = None) -> None:
        """Kill it and all it started."""
        self.cause = self.cause or cause
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> WorkerEnded:
        """Wait for the end of a worker that is ending; kill one that closed its output and lives on."""
        try:
            code = self.process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self.kill("closed its output")
            code = self.process.wait()
        self.kill()  # what it may have started lives in its process group
        self.stdout.close()
        self.end_input()
        return WorkerEnded(code, describe_exit(code), self.log_tail())

    def log_tail(self) -> str:
        """Return the end of what this process wrote to its log."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self.log_start, end - TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""


def describe_exit(code: int) -> str:
    """Return an exit status in words: "ended with exit status 1", "killed by SIGSEGV"."""
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps by the kernel for lack of memory" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}"
