"""A worker process: JSON lines in, JSON lines out, torch and data kept warm in between.

In:   {"do": "run", "key": K, "keep": [steps]}   {"do": "cancel", "key": K}   {"do": "stop"}
Out:  {"is": "ready", "device_name": …}   {"is": "started", "key": K}   {"is": "done", "key": K}
      {"is": "interrupted", "key": K, "step": n}
      {"is": "failed", "key": K, "reason": "oom|exception|nonfinite|missing", "message": …, "step": n}
      {"is": "beat", "running": {K: {"step": n, "steps": N, "loss": x, "accuracy": y}}, "turns": n,
       "preparing": bool, "memory": bytes, "lanes": n}                               about once a second

Beats come from a thread, also while data are loaded or a step is compiled. `turns` grows with every few steps of any
stage: where it stands still, and no stage is `preparing` (has yet to take its first steps), the worker hangs. `memory`
is the most that the process has used since it last was without a stage, and `lanes` how many trainers shared it (null
where they are of several kinds).

The end of its input means that the scheduler is gone: the worker leaves at once, and nothing is lost by it.
"""

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
from prunectl.worker.run import GRACE_SECONDS, Control, device_name, run
from prunectl.worker.trainer_cache import Engines

BEAT_SECONDS = 1.0
NAP_SECONDS = 0.0002
"""Between looks at the device when every slot waits for it: shorter than any step that would keep it busy."""


@dataclass
class _Slot:
    key: str
    control: Control
    steps: Iterator[bool]


class Worker:
    """Runs the stages it is told to, interleaved, until told to stop."""

    def __init__(
        self, paths: StorePaths, engines: Engines, checkpoint_every: float, out: TextIO
    ) -> None:
        self.paths = paths
        self.engines = engines
        self.checkpoint_every = checkpoint_every
        self.out = out
        self.commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self.slots: dict[str, _Slot] = {}
        self.stopping = False
        self.turns = 0
        self._speaking = threading.Lock()

    def say(self, **message: Any) -> None:
        """One line to the scheduler."""
        with self._speaking:
            self.out.write(dumps(message) + "\n")
            self.out.flush()

    def listen(self) -> None:
        """Read commands until the scheduler is gone; runs in a thread of its own."""
        for line in sys.stdin:
            if line.strip():
                self.commands.put(json.loads(line))
        os._exit(1)

    def serve(self) -> None:
        """Until `stop`: obey, take turns among the slots, and beat."""
        threading.Thread(target=self.listen, daemon=True).start()
        self.say(**{"is": "ready", "device_name": device_name(self.engines.device)})
        threading.Thread(target=self.keep_beating, daemon=True).start()
        while self.slots or not self.stopping:
            self._obey()
            worked = [self._advance(slot) for slot in list(self.slots.values())]
            self.turns += sum(worked)
            if self.slots and not any(worked):
                time.sleep(NAP_SECONDS)

    def _obey(self) -> None:
        """All commands that have come; waits for one where there is nothing else to do."""
        while True:
            try:
                command = self.commands.get(timeout=0.0 if self.slots else BEAT_SECONDS)
            except queue.Empty:
                return
            if command["do"] == "run":
                self._begin(command)
            elif command["do"] == "cancel" and command["key"] in self.slots:
                self.slots[command["key"]].control.stop_by = time.monotonic() + GRACE_SECONDS
            elif command["do"] == "stop":
                self.stopping = True
                for slot in self.slots.values():
                    slot.control.stop_by = time.monotonic() + GRACE_SECONDS
                if not self.slots:
                    return

    def _begin(self, command: dict[str, Any]) -> None:
        key = command["key"]
        if not self.slots:
            restart_peak(self.engines.device)
        control = Control(
            keep=frozenset(command.get("keep", ())), checkpoint_every=self.checkpoint_every
        )
        self.slots[key] = _Slot(key, control, run(key, self.paths, self.engines, control))
        self.say(**{"is": "started", "key": key})

    def _advance(self, slot: _Slot) -> bool:
        """A few steps of one stage, and word of how it ended if it did; False where it waits for the device."""
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
        self.say(**ended)
        return True

    def keep_beating(self) -> None:
        """Tell how far the stages are, for ever; runs in a thread of its own."""
        while True:
            time.sleep(BEAT_SECONDS)
            progress = {key: dict(slot.control.progress) for key, slot in list(self.slots.items())}
            preparing = any("step" not in each for each in progress.values())
            self.say(
                **{"is": "beat", "running": progress},
                turns=self.turns,
                preparing=preparing,
                memory=peak_memory(self.engines.device),
                lanes=self.engines.lanes,
            )
