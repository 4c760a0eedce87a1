"""`python -m prunectl.bench.reporting_worker`: a worker that trains nothing and reports as if it did.

It speaks the worker protocol of `prunectl.worker` for one stage at a time: a beat a second, an epoch in the stage's
event log every `--epoch` seconds, the result at the end. Its first stage is somewhere in its middle, as if resumed,
so that many workers do not all end at the same moment. Free of torch.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from prunectl.store.paths import StorePaths
from prunectl.store.records.base import Metrics, encode, write_record
from prunectl.store.records.events import Begin, Epoch, Start
from prunectl.store.records.journal import Journal
from prunectl.store.records.messages import (
    AnyCommand,
    AnyMessage,
    Beat,
    Progress,
    Ready,
    RunStage,
    StageDone,
    StageInterrupted,
    StageStarted,
    StopWorker,
    parse_command,
)
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_spec
from prunectl.version import code_version

BEAT_SECONDS = 1.0
"""As `prunectl.worker.main` has it."""
EPOCH_STEPS = 391
"""CIFAR-10 in batches of 128."""


class SimulatedStage:
    """A stage whose steps pass with the time."""

    def __init__(
        self,
        paths: StorePaths,
        command: RunStage,
        epoch_seconds: float,
        fraction: float,
    ) -> None:
        """`fraction` of its steps are taken as done."""
        self.key, self.attempt, self.keep = command.key, command.attempt, command.keep
        self.files = paths.stage(self.key)
        stage = read_spec(self.files).stage
        self.epochs = max(1, round(stage.steps / EPOCH_STEPS))
        self.epoch_seconds = epoch_seconds
        self.logged = int(fraction * self.epochs)
        """Epochs."""
        self.began = time.monotonic() - fraction * self.epochs * epoch_seconds
        self.journal = Journal(self.files.events, attempt=self.attempt)
        step = self.logged * EPOCH_STEPS
        self.journal.append(Start(step=step, device="cpu", device_name="none", pid=os.getpid()))
        metrics: Metrics = {"accuracy_start": 10.0}
        self.journal.append(Begin(loss_start=2.3, score_start=10.0, metrics=metrics))

    @property
    def step(self) -> int:
        """Return the steps done by now."""
        epochs = min((time.monotonic() - self.began) / self.epoch_seconds, self.epochs)
        return int(epochs * EPOCH_STEPS)

    def progress(self) -> Progress:
        """Return what a beat says of the stage."""
        steps = self.epochs * EPOCH_STEPS
        return Progress(self.attempt, self.step, steps, loss=0.4, score=90.0)

    def advance(self) -> bool:
        """Log the epochs that are over. Returns whether all are, and the result is written."""
        while (self.logged + 1) * EPOCH_STEPS <= self.step:
            before, self.logged = self.logged * EPOCH_STEPS, self.logged + 1
            self.journal.append(
                Epoch(
                    epoch=self.logged, step=self.logged * EPOCH_STEPS, lr=0.1, rates=((before, 0.1),),
                    train_loss=0.4, loss=0.5, train_score=91.0, score=90.0, seconds=self.epoch_seconds,
                    metrics={"accuracy": 90.0, "top5": 99.5, "train_accuracy": 91.0},
                )
            )  # fmt: skip
        if self.logged < self.epochs:
            return False
        result = Result(
            key=self.key,
            loss=0.5,
            score=90.0,
            metrics={"accuracy": 90.0},
            seconds=self.epochs * self.epoch_seconds,
            steps=self.step,
        )
        self.journal.append(result)
        self.journal.close()
        # Empty, but there: without them the scheduler would insert replays, and work out the order of all stages anew.
        for step in self.keep:
            self.files.rewind(step).touch()
        write_record(self.files.result, result)
        return True


class SimulatedWorker:
    """A worker with one stage at a time, on stdin and stdout."""

    def __init__(self, paths: StorePaths, epoch_seconds: float) -> None:
        self.paths = paths
        self.epoch_seconds = epoch_seconds
        self.stage: SimulatedStage | None = None
        self.fraction = random.Random(os.getpid()).random()
        """Of its next stage that counts as done."""

    def send(self, message: AnyMessage) -> None:
        """Send a line to the scheduler."""
        sys.stdout.write(encode(message).decode() + "\n")
        sys.stdout.flush()

    def serve(self) -> None:
        """Serve until told to stop, or until the scheduler is gone."""
        self.send(Ready(device_name="none", code=code_version()))
        # Workers' beats fall anywhere in a second.
        next_beat = time.monotonic() + BEAT_SECONDS * self.fraction
        buffer = b""
        while True:
            if select.select([0], [], [], max(0.0, next_beat - time.monotonic()))[0]:
                data = os.read(0, 65536)
                *lines, buffer = (buffer + data).split(b"\n")
                commands = [parse_command(line) for line in lines]
                for command in commands:
                    self.carry_out(command)
                if not data or any(isinstance(each, StopWorker) for each in commands):
                    return
            if time.monotonic() >= next_beat:
                next_beat += BEAT_SECONDS
                self.beat()

    def carry_out(self, command: AnyCommand) -> None:
        """Do what a line asks for."""
        if isinstance(command, RunStage):
            self.stage = SimulatedStage(self.paths, command, self.epoch_seconds, self.fraction)
            self.fraction = 0.0
            self.send(StageStarted(command.key, command.attempt))
        elif self.stage is not None:  # cancel, stop
            self.send(StageInterrupted(self.stage.key, self.stage.attempt, self.stage.step))
            self.stage = None

    def beat(self) -> None:
        """Say how far the stage is, or that it is done."""
        if self.stage is None:
            return
        if self.stage.advance():
            self.send(StageDone(self.stage.key, self.stage.attempt))
            self.stage = None
            return
        running = {self.stage.key: self.stage.progress()}
        self.send(Beat(running, turns=self.stage.step))


def main() -> None:
    """Serve stages; the options are those of `prunectl.worker`, and --epoch."""
    parser = argparse.ArgumentParser(prog="python -m prunectl.bench.reporting_worker")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--epoch", type=float, required=True, help="seconds")
    options, _ = parser.parse_known_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    SimulatedWorker(StorePaths(options.store), options.epoch).serve()


if __name__ == "__main__":
    main()
