"""A worker process: messages in, messages out (`store.records.messages`), torch and data kept warm in between."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from prunectl.store.paths import StorePaths
from prunectl.store.records.base import encode
from prunectl.store.records.messages import (
    AnyCommand,
    AnyMessage,
    Beat,
    CancelStage,
    Ready,
    RunStage,
    StageDone,
    StageFailed,
    StageInterrupted,
    StageNoted,
    StageStarted,
    StopWorker,
    parse_command,
)
from prunectl.version import code_version
from prunectl.worker.failures import failed_message, failed_record
from prunectl.worker.memory import peak_memory, restart_peak
from prunectl.worker.run import GRACE_SECONDS, StageControl, run
from prunectl.worker.trainer_cache import TrainerCache
from prunectl.worker.versions import device_name

HEARTBEAT_SECONDS = 1.0
POLL_SECONDS = 0.0002
"""Between looks at the device when every slot waits for it: shorter than any step that would keep it busy."""


@dataclass
class _Slot:
    key: str
    attempt: int
    control: StageControl
    steps: Iterator[bool]


class Worker:
    """Runs the stages it is told to, interleaved, until told to stop."""

    def __init__(
        self, paths: StorePaths, trainers: TrainerCache, checkpoint_every: float, out: TextIO
    ) -> None:
        self.paths = paths
        self.trainers = trainers
        self.checkpoint_every = checkpoint_every
        self.out = out
        self.commands: queue.Queue[AnyCommand] = queue.Queue()
        self.slots: dict[str, _Slot] = {}
        self.newest: dict[str, int] = {}
        """The last attempt at each stage that it was told of."""
        self.stopping = False
        self.lost = False
        """The device cannot be used any more."""
        self.turns = 0
        self._sending = threading.Lock()

    def send(self, message: AnyMessage) -> None:
        """Write one line to the scheduler."""
        with self._sending:
            self.out.write(encode(message).decode() + "\n")
            self.out.flush()

    def read_commands(self) -> None:
        """Read commands until the scheduler is gone; runs in a thread of its own."""
        try:
            for line in sys.stdin:
                if line.strip():
                    self.commands.put(parse_command(line))
        finally:
            os._exit(1)

    def serve(self) -> None:
        """Carry out commands and take turns among the slots, until `stop`."""
        threading.Thread(target=self.read_commands, daemon=True).start()
        self.send(Ready(device_name(self.trainers.device), code_version()))
        threading.Thread(target=self.send_heartbeats, daemon=True).start()
        while self.slots or not self.stopping:
            self._carry_out_commands()
            worked = [self._advance(slot) for slot in list(self.slots.values()) if not self.lost]
            if self.lost:
                os._exit(1)  # an orderly end would use the device, and might hang
            self.turns += sum(worked)
            if self.slots and not any(worked):
                time.sleep(POLL_SECONDS)

    def _carry_out_commands(self) -> None:
        """Carry out all commands that have come; wait for one where no stage runs."""
        while True:
            try:
                command = self.commands.get(timeout=0.0 if self.slots else HEARTBEAT_SECONDS)
            except queue.Empty:
                return
            match command:
                case RunStage():
                    self._start(command)
                case CancelStage(key=key) if key in self.slots:
                    self._interrupt(self.slots[key])
                case StopWorker():
                    self.stopping = True
                    for slot in self.slots.values():
                        self._interrupt(slot)
                    if not self.slots:
                        return

    def _start(self, command: RunStage) -> None:
        key, attempt = command.key, command.attempt
        if attempt and attempt <= self.newest.get(key, 0):
            return  # the command came twice
        self.newest[key] = attempt
        if not self.slots:
            restart_peak(self.trainers.device)
        control = StageControl(frozenset(command.keep), self.checkpoint_every)
        control.progress.attempt = attempt
        control.attempt = attempt or None
        control.tell = lambda text: self.send(StageNoted(key, attempt, text))
        steps = run(key, self.paths, self.trainers, control)
        self.slots[key] = _Slot(key, attempt, control, steps)
        self.send(StageStarted(key, attempt))

    def _interrupt(self, slot: _Slot) -> None:
        slot.control.stop_by = time.monotonic() + GRACE_SECONDS

    def _advance(self, slot: _Slot) -> bool:
        """Do a few steps of one stage, and report how it ended if it did.

        Returns False where the stage waits for the device.
        """
        try:
            return next(slot.steps)
        except StopIteration:
            ended: AnyMessage = StageDone(slot.key, slot.attempt)
            if slot.control.outcome == "interrupted":
                step = slot.control.progress.step or 0
                ended = StageInterrupted(slot.key, slot.attempt, step)
        except Exception as error:
            step = slot.control.progress.step or 0
            failure = slot.control.failed or failed_record(error, self.trainers.device, step)
            with contextlib.suppress(OSError):  # the log may lie on a disk that is full
                sys.stderr.write(f"stage {slot.key}\n{failure.traceback}")
            ended = failed_message(slot.key, slot.attempt, failure)
            self.lost = failure.reason == "device"
        if isinstance(ended, StageDone):
            self._beat()  # the memory of a stage shorter than a second is known from this one alone
        del self.slots[slot.key]
        if isinstance(ended, StageFailed) and ended.reason == "oom":
            self.trainers.discard_idle()
        self.send(ended)
        return True

    def send_heartbeats(self) -> None:
        """Report the progress of all stages, forever; runs in a thread of its own."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            self._beat()

    def _beat(self) -> None:
        progress = {key: slot.control.progress for key, slot in list(self.slots.items())}
        self.send(
            Beat(
                running=progress,
                turns=self.turns,
                preparing=any(each.step is None for each in progress.values()),
                memory=peak_memory(self.trainers.device),
                lanes=self.trainers.sharing,
            )
        )
