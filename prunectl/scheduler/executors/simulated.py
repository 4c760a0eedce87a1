"""`python -m prunectl.scheduler.executors.simulated`: a worker that trains nothing and reports as if it did.

It speaks the worker protocol of `prunectl.worker` for one stage at a time: a beat a second, an epoch in the stage's
event log every `--epoch` seconds, the result at the end. Its first stage is somewhere in its middle, as if resumed,
so that many workers do not all end at the same moment. Free of torch.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from prunectl.store.files import dumps, read_json, write_json
from prunectl.store.journal import Journal
from prunectl.store.paths import StorePaths

BEAT_SECONDS = 1.0
"""As `prunectl.worker.main` has it."""
EPOCH_STEPS = 391
"""CIFAR-10 in batches of 128."""


class SimulatedStage:
    """A stage whose steps pass with the time."""

    def __init__(
        self, paths: StorePaths, key: str, keep: list[int], epoch_seconds: float, fraction: float
    ) -> None:
        """`fraction` of its steps are taken as done; `keep` has the steps of the checkpoints it is asked for."""
        self.key = key
        self.keep = keep
        self.files = paths.stage(key)
        spec = read_json(self.files.spec)["stage"]
        self.epochs = max(1, round(sum(segment["steps"] for segment in spec["lr"]) / EPOCH_STEPS))
        self.epoch_seconds = epoch_seconds
        self.logged = int(fraction * self.epochs)
        """Epochs."""
        self.began = time.monotonic() - fraction * self.epochs * epoch_seconds
        self.journal = Journal(self.files.events)
        where: dict[str, Any] = {"device": "cpu", "device_name": "none", "pid": os.getpid()}
        self.journal.append("start", step=self.logged * EPOCH_STEPS, **where)
        self.journal.append("begin", accuracy_start=10.0, loss_start=2.3)

    @property
    def step(self) -> int:
        """Return the steps done by now."""
        epochs = min((time.monotonic() - self.began) / self.epoch_seconds, self.epochs)
        return int(epochs * EPOCH_STEPS)

    def progress(self) -> dict[str, Any]:
        """Return what a beat says of the stage."""
        steps = self.epochs * EPOCH_STEPS
        return {"step": self.step, "steps": steps, "loss": 0.4, "accuracy": 90.0}

    def advance(self) -> bool:
        """Log the epochs that are over. Returns whether all are, and the result is written."""
        while (self.logged + 1) * EPOCH_STEPS <= self.step:
            before, self.logged = self.logged * EPOCH_STEPS, self.logged + 1
            self.journal.append(
                "epoch", epoch=self.logged, step=self.logged * EPOCH_STEPS, lr=0.1, rates=[[before, 0.1]],
                train_loss=0.4, train_accuracy=91.0, loss=0.5, accuracy=90.0, top5=99.5,
                validation_loss=None, validation_accuracy=None, seconds=self.epoch_seconds,
            )  # fmt: skip
        if self.logged < self.epochs:
            return False
        result: dict[str, Any] = {"key": self.key, "accuracy": 90.0, "loss": 0.5, "flag": None}
        result |= {"seconds": self.epochs * self.epoch_seconds, "steps": self.step}
        self.journal.append("done", **result)
        self.journal.close()
        # Empty, but there: without them the scheduler would insert replays, and work out the order of all stages anew.
        for step in self.keep:
            self.files.rewind(step).touch()
        write_json(self.files.result, result)
        return True


class SimulatedWorker:
    """A worker with one stage at a time, on stdin and stdout."""

    def __init__(self, paths: StorePaths, epoch_seconds: float) -> None:
        self.paths = paths
        self.epoch_seconds = epoch_seconds
        self.stage: SimulatedStage | None = None
        self.fraction = random.Random(os.getpid()).random()
        """Of its next stage that counts as done."""

    def send(self, kind: str, **fields: Any) -> None:
        """Send a line to the scheduler."""
        sys.stdout.write(dumps({"is": kind, **fields}) + "\n")
        sys.stdout.flush()

    def serve(self) -> None:
        """Serve until told to stop, or until the scheduler is gone."""
        self.send("ready", device_name="none")
        # Workers' beats fall anywhere in a second.
        next_beat = time.monotonic() + BEAT_SECONDS * self.fraction
        buffer = b""
        while True:
            if select.select([0], [], [], max(0.0, next_beat - time.monotonic()))[0]:
                data = os.read(0, 65536)
                *lines, buffer = (buffer + data).split(b"\n")
                messages = [json.loads(line) for line in lines]
                for message in messages:
                    self.carry_out(message)
                if not data or any(message["do"] == "stop" for message in messages):
                    return
            if time.monotonic() >= next_beat:
                next_beat += BEAT_SECONDS
                self.beat()

    def carry_out(self, message: dict[str, Any]) -> None:
        """Do what a line asks for."""
        if message["do"] == "run":
            key, keep = message["key"], message["keep"]
            self.stage = SimulatedStage(self.paths, key, keep, self.epoch_seconds, self.fraction)
            self.fraction = 0.0
            self.send("started", key=key)
        elif self.stage is not None:  # cancel, stop
            self.send("interrupted", key=self.stage.key, step=self.stage.step)
            self.stage = None

    def beat(self) -> None:
        """Say how far the stage is, or that it is done."""
        if self.stage is None:
            return
        if self.stage.advance():
            self.send("done", key=self.stage.key)
            self.stage = None
            return
        running = {self.stage.key: self.stage.progress()}
        self.send("beat", running=running, turns=self.stage.step, preparing=False)


def main() -> None:
    """Serve stages; the options are those of `prunectl.worker`, and --epoch."""
    parser = argparse.ArgumentParser(prog="python -m prunectl.scheduler.executors.simulated")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--epoch", type=float, required=True, help="seconds")
    options, _ = parser.parse_known_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    SimulatedWorker(StorePaths(options.store), options.epoch).serve()


if __name__ == "__main__":
    main()
