"""Running one stage: a generator that yields every few steps, so that a worker can interleave several.

    done already? ─ no ─▶ lock ─▶ resume or prepare ─▶ train ⇄ evaluate, checkpoint ─▶ final, result

What leaves a stage is its folder: events as they happen, `result.json` last.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prunectl.errors import StoreError
from prunectl.ml.training.torch_flags import emulation
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import at
from prunectl.spec.stage import StageSpec
from prunectl.store.files import leftovers, write_json
from prunectl.store.journal import Journal, read
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.events import latest_epochs
from prunectl.worker.checkpoint import save_state
from prunectl.worker.failures import describe
from prunectl.worker.memory import peak_memory
from prunectl.worker.prepare import prepare, read_spec, resume
from prunectl.worker.result import check_replay, flag, is_diverged, measurements
from prunectl.worker.trainer_cache import TrainerCache
from prunectl.worker.versions import device_name, versions

GRACE_SECONDS = 30.0
"""How long a stage that is asked to stop may go on to reach the end of its epoch."""


@dataclass
class StageControl:
    """What a running stage is asked, and what it reports between its steps."""

    keep: frozenset[int] = frozenset()
    """Steps before which the training state is kept as a rewind checkpoint."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints inside the stage."""
    yield_every: int = 16
    """Steps between yields; epochs yield, too."""
    stop_by: float | None = None
    """Monotonic time by which to have stopped; the end of the epoch is soon enough. None to go on."""
    outcome: str = "running"
    """``running``, then ``done`` or ``interrupted``."""
    progress: dict[str, Any] = field(default_factory=dict)
    """step, steps, and the last evaluation's loss and accuracy."""


def run(
    key: str, paths: StorePaths, trainers: TrainerCache, control: StageControl
) -> Iterator[bool]:
    """Run a stage to its end, or to where `control` stops it.

    Yields True after every few steps, and False where it waits for the device and did nothing.

    Raises StoreBusy where another process runs it, MissingInput and NonFiniteWeights for what it builds on,
    and whatever training raises; all but the first are in the event log by then.
    """
    folder = paths.stage(key)
    if folder.result.exists():
        control.outcome = "done"
        return
    spec = read_spec(folder, key)
    with Lock(folder.lock):
        for path in leftovers(folder.folder):
            path.unlink(missing_ok=True)
        journal = Journal(folder.events)
        trainer = None
        try:
            trainer = trainers.borrow(spec)
            yield from Attempt(key, spec, paths, trainer, journal, control, trainers.device).steps()
            trainers.give_back(spec, trainer)
        except Exception as error:
            # A trainer that failed is not given back: what is in it may be anything.
            if trainer is not None:
                # A device that is broken for good must not hide why the stage failed.
                with contextlib.suppress(Exception):
                    trainers.discard(trainer)
            failed = describe(error, control.progress.get("step", 0))
            with contextlib.suppress(StoreError):  # on a full disk there is no room for it, either
                journal.append("failed", durable=True, **failed)
            raise
        finally:
            journal.close()


@dataclass
class Attempt:
    """One attempt at one stage."""

    key: str
    spec: StageSpec
    paths: StorePaths
    trainer: Trainer
    journal: Journal
    control: StageControl
    device: str
    started: float = field(default_factory=time.time)
    epoch_started: float = field(default_factory=time.monotonic)
    saved_at: float = field(default_factory=time.monotonic)
    diverged: bool = False
    """A loss was not finite."""

    def __post_init__(self) -> None:
        self.folder = self.paths.stage(self.key)
        self.history, _ = read(self.folder.events)
        self.keep = self.control.keep
        if self.spec.replay:
            assert self.spec.weights.step is not None
            self.keep = frozenset({self.spec.weights.step})

    def steps(self) -> Iterator[bool]:
        """Resume or prepare, train, finish; yields as `run` does."""
        facts = resume(self.spec, self.trainer, self.folder, self.history, self.journal)
        self._record_start(resumed=facts is not None)
        if facts is None:
            facts = prepare(self.spec, self.key, self.trainer, self.paths, self.journal)
        yield True
        self.epoch_started = time.monotonic()
        while True:
            self._keep_rewind_point()
            if self.trainer.step >= self.spec.steps or self.diverged:
                break
            yield from self._train(self._next_boundary())
            if self.control.outcome == "interrupted":
                return
            if self._evaluates_at(self.trainer.step):
                self._record_epoch()
                yield True
                if self._checkpoint_or_stop():
                    return
        self._finish(facts)

    def _train(self, boundary: int) -> Iterator[bool]:
        """Train up to step number `boundary`, or to an interruption, and wait for the device."""
        spec, trainer = self.spec, self.trainer
        for worked in trainer.train(
            spec.lr, spec.seed, spec.iteration, boundary, self.control.yield_every
        ):
            self.control.progress |= {"step": trainer.step, "steps": spec.steps}
            yield worked
            stop_by = self.control.stop_by
            if trainer.step < boundary and stop_by is not None and time.monotonic() > stop_by:
                self._interrupt()
                return
        while not trainer.idle():
            yield False
        for text in trainer.notes():
            self._note(text)

    # -- where to stop in between

    def _next_boundary(self) -> int:
        step, every = self.trainer.step, self.spec.train.evaluate_every
        boundaries = [self.spec.steps, *(kept for kept in self.keep if kept > step)]
        if every:
            boundaries.append((step // every + 1) * every)
        return min(boundaries)

    def _evaluates_at(self, step: int) -> bool:
        """A replay ends where its dense run may not have evaluated, and then does not either."""
        every = self.spec.train.evaluate_every
        due = bool(every) and step % every == 0
        return due or (step == self.spec.steps and not self.spec.replay)

    # -- what is written on the way

    def _record_start(self, *, resumed: bool) -> None:
        self.journal.append(
            "start",
            step=self.trainer.step if resumed else 0,
            resumed=resumed,
            device=self.device,
            device_name=device_name(self.device),
            host=socket.gethostname(),
            pid=os.getpid(),
            versions=versions(),
        )
        if (text := emulation(self.device, self.spec.train)) is not None:
            self._note(text)

    def _note(self, text: str) -> None:
        self.journal.append("note", text=text)
        sys.stderr.write(f"stage {self.key}: {text}\n")

    def _keep_rewind_point(self) -> None:
        step = self.trainer.step
        path = self.folder.rewind(step)
        if step in self.keep and not path.exists():
            save_state(path, self.trainer.state(), self.key)
            self.journal.append("checkpoint", step=step, file=path.name)

    def _record_epoch(self) -> None:
        seconds = time.monotonic() - self.epoch_started
        train = self.trainer.metrics()
        test = self.trainer.evaluate("test")
        assert test is not None
        validation = self.trainer.evaluate("validation")
        step = self.trainer.step
        every = self.spec.train.evaluate_every or self.spec.steps
        record = self.journal.append(
            "epoch",
            epoch=math.ceil(step / every),
            step=step,
            lr=at(self.spec.lr, step - 1),
            rates=[list(run) for run in self.trainer.lrs_applied()],
            train_loss=train.loss,
            train_accuracy=train.accuracy,
            loss=test.loss,
            accuracy=test.accuracy,
            top5=test.top5,
            validation_loss=validation.loss if validation else None,
            validation_accuracy=validation.accuracy if validation else None,
            seconds=round(seconds, 6),
        )
        self.history.append(record)
        self.diverged = is_diverged(record)
        self.control.progress |= {"step": step, "loss": test.loss, "accuracy": test.accuracy}
        if self.spec.replay:
            assert self.spec.weights.stage is not None
            recorded, _ = read(self.paths.stage(self.spec.weights.stage).events)
            check_replay(record, recorded, self.spec.steps)
        self.epoch_started = time.monotonic()

    def _checkpoint_or_stop(self) -> bool:
        """At the end of an epoch: save a checkpoint where it is time. Returns True if the stage stops here."""
        if self.trainer.step >= self.spec.steps or self.diverged:
            return False
        if self.control.stop_by is not None:
            self._interrupt()
            return True
        if time.monotonic() - self.saved_at >= self.control.checkpoint_every:
            self._save_latest()
        return False

    def _save_latest(self) -> None:
        # The records up to here must not be lost when the checkpoint that skips them survives.
        self.journal.append(
            "checkpoint", durable=True, step=self.trainer.step, file=self.folder.latest.name
        )
        save_state(self.folder.latest, self.trainer.state(), self.key)
        self.saved_at = time.monotonic()

    def _interrupt(self) -> None:
        self._save_latest()
        self.journal.append("interrupted", step=self.trainer.step)
        self.control.outcome = "interrupted"

    # -- the end

    def _finish(self, facts: dict[str, Any]) -> None:
        if not self.spec.replay:
            save_state(self.folder.final, self.trainer.state(), self.key)
        result = self._result(facts)
        self.journal.append("done", durable=True, **result)
        write_json(self.folder.result, result)
        self.folder.latest.unlink(missing_ok=True)
        self.control.outcome = "done"

    def _result(self, facts: dict[str, Any]) -> dict[str, Any]:
        epochs = latest_epochs(self.history)
        return {
            "key": self.key,
            "replay": self.spec.replay,
            "seed": self.spec.seed,
            "iteration": self.spec.iteration,
            "steps": self.trainer.step,
            "flag": flag(self.spec, epochs, len(self.trainer.images.test_labels)),
            **facts,
            **measurements(epochs),
            "retrain_epochs": float(self.trainer.step / self.trainer.layout.per_epoch),
            "seconds": round(sum(record["seconds"] for record in epochs), 3),
            "peak_memory": peak_memory(self.device),
            "device": self.device,
            "device_name": device_name(self.device),
            "mode": self.trainer.mode,
            "attempt": self.journal.attempt,
            "versions": versions(),
            "started": self.started,
            "ended": time.time(),
            "files": {
                path.name: path.stat().st_size
                for path in sorted(self.folder.folder.glob("*.safetensors"))
                if path != self.folder.latest
            },
        }
