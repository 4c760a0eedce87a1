"""Worker processes: started, spoken to in JSON lines, listened to, and ended with certainty.

A worker is the leader of a session of its own, so that a terminal's Ctrl-C reaches only the scheduler, which then
asks its workers to checkpoint. It dies with the scheduler, by the kernel's hand (`launch`) and by the end of its
input. What it writes to stderr goes to a log, whose end explains a crash.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors import launch

Message = dict[str, Any]
"""A line from a worker, `is` says which; or {"is": "ended", …} made here when one is gone."""

LOG_BYTES = 4 << 20
"""A worker's log longer than this is set aside when a worker starts."""
TAIL_BYTES = 4096
READ_BYTES = 65536
"""What a pipe holds."""
POLL_SECONDS = 0.5
"""Between looks for workers that ended with their output still open in a process of theirs; the others are noticed
at once, by its end."""
LAUNCH = (sys.executable, "-I", "-S", launch.__file__)
"""Isolated and without site-packages: it starts in 15 ms and runs nothing of the user's."""


@dataclass(eq=False)
class Worker:
    """One worker process."""

    number: int
    device: Device
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    started: float
    """Of the monotonic clock, as is `heard`."""
    flags: tuple[str, bool] | None = None
    """torch's process-wide flags; fixed by its first stage."""
    kind: object = None
    """Of its last stage: what it has warm."""
    running: dict[str, float] = field(default_factory=dict)
    """Its stages, and since when."""
    heard: float = 0.0
    moved: float = 0.0
    """When its stages last got on; beats alone are no progress."""
    turns: int | None = None
    """Of its last beat: grows as its stages get on."""
    ready: bool = False
    retiring: bool = False
    """Takes no more stages and ends when it has none."""
    cause: str | None = None
    """Why the scheduler killed it."""
    _waiting: list[Message] = field(default_factory=list)
    _buffer: bytes = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def free(self) -> int:
        """Lanes without a stage."""
        return 0 if self.retiring else self.device.lanes - len(self.running)

    def tell(self, message: Message) -> None:
        """Send a line; kept until the worker is ready to listen."""
        if not self.ready:
            self._waiting.append(message)
            return
        assert self.process.stdin is not None
        # A pipe that is full or broken belongs to a worker that hangs or is dead: found out elsewhere.
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def read(self, now: float) -> tuple[list[Message], bool]:
        """Complete messages that have come, and whether the worker closed its output."""
        assert self.process.stdout is not None
        closed = False
        while True:
            try:
                data = os.read(self.process.stdout.fileno(), READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                closed = True
                break
            self._buffer += data
            if len(data) < READ_BYTES:  # what comes later, its end too, wakes the selector again
                break
        *lines, self._buffer = self._buffer.split(b"\n")
        messages = []
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # something a library printed
            if isinstance(message, dict) and "is" in message:
                messages.append(message)
        for message in messages:
            self.listen_for_life(message, now)
        if any(message["is"] == "ready" for message in messages):
            self.ready = True
            waiting, self._waiting = self._waiting, []
            for message in waiting:
                self.tell(message)
        return messages, closed

    def listen_for_life(self, message: Message, now: float) -> None:
        """A beat is a sign of life only where stages get on, or load what they need before their first step."""
        turns = message.get("turns")
        if message["is"] != "beat" or turns is None or turns != self.turns:
            self.heard = self.moved = now
        elif message.get("preparing"):
            self.heard = now
        self.turns = turns

    def dismiss(self) -> None:
        """Let an idle worker end."""
        self.cause = self.cause or "retired"
        self.end_input()

    def end_input(self) -> None:
        """Close its input, which ends it; a busy one drops everything."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.close()

    def kill(self, cause: str | None = None) -> None:
        """Kill it and all it started."""
        self.cause = self.cause or cause
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def log_tail(self) -> str:
        """The end of what this process wrote to its log."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self.log_start, end - TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""


class Pool:
    """The workers of a run."""

    def __init__(
        self,
        command: Callable[[Device], Sequence[str]],
        logs: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._logs = logs
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self.workers: list[Worker] = []
        self._next_poll = 0.0

    def wake_by(self, descriptor: int) -> None:
        """Let `wait` return when this descriptor is readable; the caller reads it."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def place(
        self,
        device: Device,
        key: str,
        keep: Sequence[int],
        flags: tuple[str, bool],
        kind: object,
        *,
        fresh: bool = False,
    ) -> Worker:
        """Give a stage to a worker of the device, starting one if need be. The caller has counted slots.

        A `fresh` one has had no stage before; the device's idle ones end.

        Raises OSError where no process can be started.
        """
        if fresh:
            for idle in self.workers:
                if idle.device.id == device.id and not idle.running and not idle.retiring:
                    self.retire(idle)
        worker = self._choose(device, flags, kind) or self._start(device)
        worker.flags = flags
        worker.kind = kind
        worker.running[key] = worker.heard = worker.moved = self._clock()
        worker.tell({"do": "run", "key": key, "keep": list(keep)})
        return worker

    def _choose(self, device: Device, flags: tuple[str, bool], kind: object) -> Worker | None:
        mine = [worker for worker in self.workers if worker.device.id == device.id]
        fitting = [worker for worker in mine if worker.free and worker.flags in (None, flags)]
        if fitting:
            return max(fitting, key=lambda worker: (worker.kind == kind, bool(worker.running)))
        for worker in mine:  # an idle one with other flags makes room
            if not worker.running and not worker.retiring:
                self.retire(worker)
                break
        return None

    def _start(self, device: Device) -> Worker:
        taken = {worker.number for worker in self.workers}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        log = self._logs / f"worker-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as stderr:
            start = stderr.tell()
            process = subprocess.Popen(
                [*LAUNCH, str(os.getpid()), *self._command(device)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **device.environment()},
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        now = self._clock()
        worker = Worker(number, device, process, log, start, now, heard=now)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        self.workers.append(worker)
        return worker

    def find(self, key: str) -> Worker | None:
        """The worker that has the stage."""
        return next((worker for worker in self.workers if key in worker.running), None)

    def retire(self, worker: Worker) -> None:
        """Let the worker end as soon as it has no stage."""
        worker.retiring = True
        if not worker.running:
            worker.dismiss()

    def wait(self, timeout: float) -> list[tuple[Worker, Message]]:
        """What workers have said, waiting at most `timeout` seconds for the first of it."""
        heard: list[tuple[Worker, Message]] = []
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Worker):
                heard += self._listen(key.data)
        if self._clock() >= self._next_poll:
            self._next_poll = self._clock() + POLL_SECONDS
            for worker in self.workers[:]:
                if worker.process.poll() is not None:
                    heard += self._listen(worker)
        return heard

    def _listen(self, worker: Worker) -> list[tuple[Worker, Message]]:
        if worker not in self.workers:
            return []
        messages, closed = worker.read(self._clock())
        heard = [(worker, message) for message in messages]
        if closed or worker.process.returncode is not None:
            heard.append((worker, self._bury(worker)))
        return heard

    def _bury(self, worker: Worker) -> Message:
        """Reap a worker that is ending; one that closed its output and lives on is killed."""
        try:
            code = worker.process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            worker.kill("closed its output")
            code = worker.process.wait()
        worker.kill()  # what it may have started lives in its process group
        assert worker.process.stdout is not None
        self._selector.unregister(worker.process.stdout)
        worker.process.stdout.close()
        worker.end_input()
        self.workers.remove(worker)
        return {"is": "ended", "code": code, "how": describe_exit(code), "log": worker.log_tail()}

    def silent(
        self, hang_seconds: float, start_seconds: float, prepare_seconds: float
    ) -> list[Worker]:
        """Workers that have stages and show no life, or for all their life no progress, for too long."""
        now = self._clock()
        return [
            worker
            for worker in self.workers
            if worker.running
            and (
                now - worker.heard > (hang_seconds if worker.ready else start_seconds)
                or (worker.ready and now - worker.moved > prepare_seconds)
            )
        ]

    def stop(self) -> None:
        """Ask every worker to checkpoint and end."""
        for worker in self.workers:
            worker.retiring = True
            if worker.ready:
                worker.tell({"do": "stop"})
            else:
                worker.kill("stopped before it was ready")  # it has done nothing yet
        for worker in self.workers:
            if not worker.running:
                worker.dismiss()

    def kill(self, cause: str | None = None) -> None:
        """Kill every worker."""
        for worker in self.workers:
            worker.kill(cause)

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        self.kill("the scheduler ended")
        for worker in self.workers[:]:
            self._bury(worker)
        self._selector.close()


def describe_exit(code: int) -> str:
    """An exit status in words: "exit status 1", "killed by SIGSEGV"."""
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps by the kernel for lack of memory" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}"


def command_line(
    base: Sequence[str], arguments: Mapping[str, str]
) -> Callable[[Device], list[str]]:
    """The command line of a device's workers: `base`, then the options of the worker protocol."""

    def command(device: Device) -> list[str]:
        name = "cpu" if device.kind == "cpu" else "cuda"
        options: Iterable[tuple[str, str]] = {
            **arguments,
            "device": name,
            "slots": str(device.lanes),
        }.items()
        return [*base, *(word for key, value in options for word in (f"--{key}", value))]

    return command
