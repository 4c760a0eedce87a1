"""A worker process: messages in, messages out (`store.records.messages`), torch and data kept warm in between."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from prunectl.store.files import dumps
from prunectl.store.paths import StorePaths
from prunectl.worker.failures import describe
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
        self.commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self.slots: dict[str, _Slot] = {}
        self.stopping = False
        self.turns = 0
        self._sending = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Write one line to the scheduler."""
        with self._sending:
            self.out.write(dumps(message) + "\n")
            self.out.flush()

    def read_commands(self) -> None:
        """Read commands until the scheduler is gone; runs in a thread of its own."""
        for line in sys.stdin:
            if line.strip():
                self.commands.put(json.loads(line))
        os._exit(1)

    def serve(self) -> None:
        """Carry out commands and take turns among the slots, until `stop`."""
        threading.Thread(target=self.read_commands, daemon=True).start()
        self.send({"is": "ready", "device_name": device_name(self.trainers.device)})
        threading.Thread(target=self.send_heartbeats, daemon=True).start()
        while self.slots or not self.stopping:
            self._carry_out_commands()
            worked = [self._advance(slot) for slot in list(self.slots.values())]
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
            if command["do"] == "run":
                self._start(command)
            elif command["do"] == "cancel" and command["key"] in self.slots:
                self._interrupt(self.slots[command["key"]])
            elif command["do"] == "stop":
                self.stopping = True
                for slot in self.slots.values():
                    self._interrupt(slot)
                if not self.slots:
                    return

    def _start(self, command: dict[str, Any]) -> None:
        key = command["key"]
        if not self.slots:
            restart_peak(self.trainers.device)
        control = StageControl(frozenset(command.get("keep", ())), self.checkpoint_every)
        self.slots[key] = _Slot(key, control, run(key, self.paths, self.trainers, control))
        self.send({"is": "started", "key": key})

    def _interrupt(self, slot: _Slot) -> None:
        slot.control.stop_by = time.monotonic() + GRACE_SECONDS

    def _advance(self, slot: _Slot) -> bool:
        """Do a few steps of one stage, and report how it ended if it did.

        Returns False where the stage waits for the device.
        """
        try:
            return next(slot.steps)
        except StopIteration:
            ended = {"is": slot.control.outcome, "key": slot.key}
            if slot.control.outcome == "interrupted":
                ended["step"] = slot.control.progress.get("step", 0)
        except Exception as error:
            failure = describe(error, slot.control.progress.get("step", 0))
            with contextlib.suppress(OSError):  # the log may lie on a disk that is full
                sys.stderr.write(f"stage {slot.key}\n{failure['traceback']}")
            ended = {"is": "failed", "key": slot.key, **failure}
        del self.slots[slot.key]
        self.send(ended)
        return True

    def send_heartbeats(self) -> None:
        """Report the progress of all stages, forever; runs in a thread of its own."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            progress = {key: dict(slot.control.progress) for key, slot in list(self.slots.items())}
            self.send(
                {
                    "is": "beat",
                    "running": progress,
                    "turns": self.turns,
                    "preparing": any("step" not in each for each in progress.values()),
                    "memory": peak_memory(self.trainers.device),
                    "lanes": self.trainers.sharing,
                }
            )
