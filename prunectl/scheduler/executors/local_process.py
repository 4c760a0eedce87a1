"""One worker process of this host: messages to it and from it, and its end.

A worker is the leader of a session of its own, so that a terminal's Ctrl-C reaches only the scheduler, which then asks
its workers to checkpoint. It dies with the scheduler: the kernel kills it (`parent_death`), and its input ends. What it
writes to stderr goes to a log, whose end explains a crash.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prunectl.child import describe_exit
from prunectl.scheduler.parent_death import dies_with_us
from prunectl.store.records.base import encode
from prunectl.store.records.messages import AnyCommand, AnyMessage, WorkerEnded, parse_message

LOG_BYTES = 4 << 20
"""A worker's log longer than this is set aside when a worker starts."""
TAIL_BYTES = 4096
READ_BYTES = 65536
"""What a pipe holds: one read empties it."""


@dataclass(eq=False)
class LocalProcess:
    """A worker process, its pipes and its log."""

    number: int
    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    log: Path
    log_start: int
    """Bytes of the log that earlier processes wrote."""
    _buffer: bytes = b""

    @classmethod
    def start(
        cls, number: int, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> LocalProcess:
        """Start a worker, with these variables beside our own.

        Raises:
            OSError: where no process can be started, or its log cannot be written.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as stderr:
            log_start = stderr.tell()
            process = subprocess.Popen(
                dies_with_us([*command]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        # A worker that hangs must not block the scheduler's loop.
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        return cls(number, process, process.stdin, process.stdout, log, log_start)

    @property
    def pid(self) -> int:
        """Return its process id, which is its session's, too."""
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def send(self, command: AnyCommand) -> None:
        """Send a line."""
        # A pipe that is full or broken belongs to a worker that hangs or is dead: found out elsewhere.
        with contextlib.suppress(OSError, ValueError):
            self.stdin.write(encode(command) + b"\n")
            self.stdin.flush()

    def read(self) -> tuple[list[AnyMessage], bool]:
        """Return the complete messages that have come, and whether the worker closed its output."""
        try:
            data = os.read(self.stdout.fileno(), READ_BYTES)
        except BlockingIOError:
            return [], False
        except OSError:
            data = b""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [message for line in lines if (message := parse_message(line))], not data

    def end_input(self) -> None:
        """Close its input, which ends it; a busy one drops everything."""
        with contextlib.suppress(OSError, ValueError):
            self.stdin.close()

    def kill(self) -> None:
        """Kill it and all it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> WorkerEnded:
        """Wait for the end of a worker that is ending; kill one that closed its output and lives on."""
        how = ""
        try:
            code = self.process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            how = "closed its output"
            self.kill()
            code = self.process.wait()
        self.kill()  # what it may have started lives in its process group
        self.stdout.close()
        self.end_input()
        return WorkerEnded(code, how or describe_exit(code), self.log_tail())

    def log_tail(self) -> str:
        """Return the end of what this process wrote to its log."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self.log_start, end - TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""
