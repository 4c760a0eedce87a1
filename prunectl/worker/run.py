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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prunectl.errors import StoreError
from prunectl.ml.tasks import registry as tasks
from prunectl.ml.training.torch_flags import emulation
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import at
from prunectl.spec.stage import Stage
from prunectl.store.files import leftovers
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord, Metrics, write_record
from prunectl.store.records.events import (
    Checkpoint,
    Epoch,
    Failed,
    Interrupted,
    Note,
    Start,
    latest_epochs,
    read_events,
)
from prunectl.store.records.journal import Journal
from prunectl.store.records.messages import Progress
from prunectl.store.records.result import Result
from prunectl.store.records.stage import has_result
from prunectl.store.tensors import stored_checksum
from prunectl.worker.checkpoint import save_state
from prunectl.worker.failures import failed_record
from prunectl.worker.memory import peak_memory
from prunectl.worker.predictions import KeptPredictions
from prunectl.worker.prepare import prepare, read_stage, resume
from prunectl.worker.restore import clear_damage
from prunectl.worker.result import add_epochs, check_replay, flag, is_diverged
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
    attempt: int | None = None
    """The attempt's number; None for the next after those in the stage's log."""
    outcome: str = "running"
    """``running``, then ``done`` or ``interrupted``."""
    failed: Failed | None = None
    """The record of the error that ended it."""
    tell: Callable[[str], None] = lambda text: None
    """Passes on what the log has for people to read."""
    progress: Progress = field(default_factory=Progress)


def run(
    key: str, paths: StorePaths, trainers: TrainerCache, control: StageControl
) -> Iterator[bool]:
    """Run a stage to its end, or to where `control` stops it.

    Yields True after every few steps, and False where it waits for the device and did nothing.

    Raises StoreBusy where another process runs it, MissingInput and NonFiniteWeights for what it builds on,
    and whatever training raises; all but the first are in the event log by then.
    """
    folder = paths.stage(key)
    if has_result(paths, key):
        control.outcome = "done"
        return
    spec = read_stage(folder)
    with Lock(folder.lock):
        for path in leftovers(folder.folder):
            path.unlink(missing_ok=True)
        # Once more: it may have been imported since, or come from a worker that was thought dead.
        if has_result(paths, key) or clear_damage(folder, spec):
            control.outcome = "done"
            return
        journal = Journal(folder.events, attempt=control.attempt)
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
            failed = failed_record(error, trainers.device, control.progress.step or 0)
            control.failed = failed
            with contextlib.suppress(StoreError):  # on a full disk there is no room for it, either
                journal.append(failed, durable=True)
            raise
        finally:
            journal.close()


@dataclass
class Attempt:
    """One attempt at one stage."""

    key: str
    spec: Stage
    paths: StorePaths
    trainer: Trainer
    journal: Journal
    control: StageControl
    device: str
    started: float = field(default_factory=time.time)
    epoch_started: float = field(default_factory=time.monotonic)
    saved_at: float = field(default_factory=time.monotonic)
    resumed: bool = False
    """It went on from a checkpoint."""
    diverged: bool = False
    """A loss was not finite."""

    def __post_init__(self) -> None:
        self.folder = self.paths.stage(self.key)
        self.history: list[LogRecord] = [*read_events(self.folder.events).records]
        self.score = tasks.find(self.spec.task).measures.score
        self.keep = self.control.keep
        if self.spec.replay:
            assert self.spec.weights.step is not None
            self.keep = frozenset({self.spec.weights.step})

    def steps(self) -> Iterator[bool]:
        """Resume or prepare, train, finish; yields as `run` does."""
        result = resume(self.spec, self.trainer, self.folder, self.history, self.journal)
        self.resumed = result is not None
        self._record_start()
        kept = KeptPredictions(self.paths, self.key, self.spec, self.trainer)
        if result is None:
            # Rewind points, too: made on another device, they would not be of this attempt's numbers.
            self.folder.remove_tensors()
            result = prepare(
                self.spec, self.key, self.trainer, self.paths, self.journal, self.score
            )
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
        self._finish(result, kept)

    def _train(self, boundary: int) -> Iterator[bool]:
        """Train up to step number `boundary`, or to an interruption, and wait for the device."""
        spec, trainer = self.spec, self.trainer
        for worked in trainer.train(
            spec.lr, spec.seeds, spec.iteration, boundary, self.control.yield_every
        ):
            self.control.progress.step, self.control.progress.steps = trainer.step, spec.steps
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

    def _record_start(self) -> None:
        self.journal.append(
            Start(
                key=self.key,
                step=self.trainer.step if self.resumed else 0,
                resumed=self.resumed,
                device=self.device,
                device_name=device_name(self.device),
                host=socket.gethostname(),
                pid=os.getpid(),
                versions=versions(),
            )
        )
        kind = self.device.partition(":")[0]
        if (text := emulation(kind, self.spec.train.precision)) is not None:
            self._note(text)

    def _note(self, text: str) -> None:
        self.journal.append(Note(text=text))
        self.control.tell(text)
        sys.stderr.write(f"stage {self.key}: {text}\n")

    def _keep_rewind_point(self) -> None:
        step = self.trainer.step
        path = self.folder.rewind(step)
        if step in self.keep and not path.exists():
            save_state(path, self.trainer.state(), self.key)
            self.journal.append(Checkpoint(step=step, file=path.name))

    def _record_epoch(self) -> None:
        seconds = time.monotonic() - self.epoch_started
        train = self.trainer.metrics()
        test = self.trainer.evaluate("test")
        assert test is not None
        validation = self.trainer.evaluate("validation")
        step = self.trainer.step
        every = self.spec.train.evaluate_every or self.spec.steps
        splits = {"": test, "train_": train} | ({"validation_": validation} if validation else {})
        metrics: Metrics = {
            f"{prefix}{name}": value
            for prefix, split in splits.items()
            for name, value in split.metrics.items()
        }
        score = self.score.name
        record = self.journal.append(
            Epoch(
                epoch=math.ceil(step / every),
                step=step,
                lr=at(self.spec.lr, step - 1),
                rates=tuple(self.trainer.lrs_applied()),
                train_loss=train.loss,
                loss=test.loss,
                validation_loss=validation.loss if validation else None,
                train_score=metrics.get(f"train_{score}"),
                score=metrics[score],
                validation_score=metrics.get(f"validation_{score}"),
                metrics=metrics,
                seconds=round(seconds, 6),
                skipped=train.skipped if self.spec.train.precision == "fp16" else None,
            )
        )
        self.history.append(record)
        self.diverged = is_diverged(record)
        progress = self.control.progress
        progress.step, progress.loss, progress.score = step, record.loss, record.score
        if self.spec.replay:
            assert self.spec.weights.stage is not None
            recorded = read_events(self.paths.stage(self.spec.weights.stage).events).records
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
        checkpoint = Checkpoint(step=self.trainer.step, file=self.folder.latest.name)
        self.journal.append(checkpoint, durable=True)
        save_state(self.folder.latest, self.trainer.state(), self.key)
        self.saved_at = time.monotonic()

    def _interrupt(self) -> None:
        self._save_latest()
        self.journal.append(Interrupted(step=self.trainer.step))
        self.control.outcome = "interrupted"

    # -- the end

    def _finish(self, result: Result, kept: KeptPredictions) -> None:
        if not self.spec.replay:
            save_state(self.folder.final, self.trainer.state(), self.key)
        kept.finish(result)
        for text in kept.notes:
            self._note(text)
        self._complete(result)
        self.journal.append(result, durable=True)
        write_record(self.folder.result, result)
        self.folder.latest.unlink(missing_ok=True)
        self.control.outcome = "done"

    def _device_models(self) -> tuple[str, ...]:
        """Return the models of the devices that did this stage's steps, in order."""
        models: list[str] = []
        if self.resumed:
            for record in self.history:
                if isinstance(record, Start):
                    models = [*(models if record.resumed else ()), record.device_name]
        return tuple(dict.fromkeys([*models, device_name(self.device)]))

    def _complete(self, result: Result) -> None:
        """Fill in what is known at the end."""
        epochs = latest_epochs(self.history)
        add_epochs(result, epochs, self.score)
        result.key = self.key
        result.replay = self.spec.replay
        result.seed, result.iteration = self.spec.seed, self.spec.iteration
        result.steps = self.trainer.step
        test_images = len(self.trainer.images.test_targets)
        result.test_items = test_images
        result.flag = flag(self.spec, epochs, test_images, self.score)
        result.retrain_epochs = float(self.trainer.step / self.trainer.layout.per_epoch)
        result.seconds = round(sum(epoch.seconds or 0.0 for epoch in epochs), 3)
        result.peak_memory = peak_memory(self.device)
        result.device, result.device_name = self.device, device_name(self.device)
        models = self._device_models()
        result.device_names = models if len(models) > 1 else ()
        result.mode = self.trainer.mode
        result.attempt = self.journal.attempt
        result.versions = versions()
        result.started, result.ended = self.started, max(self.started, time.time())
        kept = sorted(self.folder.folder.glob("*.safetensors"))
        kept = [path for path in kept if path != self.folder.latest]
        result.files = {path.name: path.stat().st_size for path in kept}
        result.digests = {path.name: stored_checksum(path) for path in kept}
