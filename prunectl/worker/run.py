"""Running one stage: a generator that yields every few steps, so that a worker can interleave several.

    done already? ─ no ─▶ lock ─▶ resume or prepare ─▶ train ⇄ evaluate, checkpoint ─▶ final, result

What leaves a stage is its folder: events as they happen, `result.json` last.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prunectl.errors import StoreError
from prunectl.ml.training.torch_flags import emulation
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.key import spec_from_dict, stage_key
from prunectl.spec.lr_schedule import at
from prunectl.spec.stage import StageSpec
from prunectl.store.files import leftovers, read_json, write_json
from prunectl.store.journal import Journal, Record, read
from prunectl.store.locks import Lock
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.worker.checkpoint import (
    CorruptFile,
    load_masks,
    load_state,
    save_state,
    set_aside,
)
from prunectl.worker.failures import ReplayDiffers, describe
from prunectl.worker.memory import peak_memory
from prunectl.worker.prepare import Start, counts, prepare
from prunectl.worker.trainer_cache import Engines
from prunectl.worker.versions import versions

GRACE_SECONDS = 30.0
"""How long a stage that is asked to stop may go on to reach the end of its epoch."""


@dataclass
class Control:
    """What a running stage is asked, and what it tells of itself between its steps."""

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


def run(key: str, paths: StorePaths, engines: Engines, control: Control) -> Iterator[bool]:
    """Run a stage to its end, or to where `control` stops it.

    Yields True after every few steps, and False where it waits for the device and did nothing.

    Raises StoreBusy where another process runs it, MissingInput and NonFiniteWeights for what it builds on,
    and whatever training raises; all but the first are in the event log by then.
    """
    folder = paths.stage(key)
    if folder.result.exists():
        control.outcome = "done"
        return
    spec = _read_spec(folder, key)
    with Lock(folder.lock):
        for path in leftovers(folder.folder):
            path.unlink(missing_ok=True)
        journal = Journal(folder.events)
        trainer = None
        try:
            trainer = engines.borrow(spec)
            yield from _Run(key, spec, paths, trainer, journal, control, engines.device).steps()
            engines.give_back(spec, trainer)
        except Exception as error:
            # A trainer that failed is not given back: what is in it may be anything.
            if trainer is not None:
                _let_go(engines, trainer)
            failed = describe(error, control.progress.get("step", 0))
            with contextlib.suppress(StoreError):  # on a full disk there is no room for it, either
                journal.append("failed", durable=True, **failed)
            raise
        finally:
            journal.close()


def _let_go(engines: Engines, trainer: Trainer) -> None:
    """Free a failed trainer; a device that is broken for good must not hide why the stage failed."""
    with contextlib.suppress(Exception):
        engines.discard(trainer)


def _read_spec(folder: StagePaths, key: str) -> StageSpec:
    try:
        spec = spec_from_dict(read_json(folder.spec))
    except (FileNotFoundError, ValueError) as error:
        raise StoreError(f"{folder.spec}: {error}") from error
    if stage_key(spec) != key:
        raise StoreError(f"{folder.spec} describes another stage than its folder")
    return spec


class _Run:
    """One attempt at one stage."""

    def __init__(
        self,
        key: str,
        spec: StageSpec,
        paths: StorePaths,
        trainer: Trainer,
        journal: Journal,
        control: Control,
        device: str,
    ) -> None:
        self.key = key
        self.spec = spec
        self.paths = paths
        self.folder = paths.stage(key)
        self.trainer = trainer
        self.journal = journal
        self.control = control
        self.device = device
        self.steps_total = spec.steps
        self.history, _ = read(self.folder.events)
        self.started = time.time()
        self.epoch_started = time.monotonic()
        self.saved_at = time.monotonic()
        self.diverged = False

    def steps(self) -> Iterator[bool]:
        """Prepare, train, finish."""
        start = self._resume()
        resumed = start is not None
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
        if start is None:
            start = prepare(self.spec, self.key, self.trainer, self.paths, self.journal)
        yield True
        self.epoch_started = time.monotonic()
        while True:
            self._keep_rewind_point()
            if self.trainer.step >= self.steps_total or self.diverged:
                break
            boundary = self._next_boundary()
            for worked in self.trainer.train(
                self.spec.lr,
                self.spec.seed,
                self.spec.iteration,
                until=boundary,
                yield_every=self.control.yield_every,
            ):
                self.control.progress |= {"step": self.trainer.step, "steps": self.steps_total}
                yield worked
                if self.trainer.step < boundary and self._out_of_time():
                    self._interrupt()
                    return
            while not self.trainer.idle():
                yield False
            for text in self.trainer.notes():
                self._note(text)
            if self._evaluates_at(self.trainer.step):
                self._record_epoch()
                yield True
                if self._checkpoint_or_stop():
                    return
        self._finish(start)

    # -- where to stop in between

    def _next_boundary(self) -> int:
        step, every = self.trainer.step, self.spec.train.evaluate_every
        boundary = self.steps_total
        if every:
            boundary = min(boundary, (step // every + 1) * every)
        return min([boundary, *(kept for kept in self._kept_steps() if kept > step)])

    def _evaluates_at(self, step: int) -> bool:
        every = self.spec.train.evaluate_every
        if self.spec.replay and step == self.steps_total:
            return bool(every) and step % every == 0
        return step == self.steps_total or (bool(every) and step % every == 0)

    def _kept_steps(self) -> frozenset[int]:
        if self.spec.replay:
            assert self.spec.weights.step is not None
            return frozenset({self.spec.weights.step})
        return self.control.keep

    def _out_of_time(self) -> bool:
        return self.control.stop_by is not None and time.monotonic() > self.control.stop_by

    # -- what is written on the way

    def _note(self, text: str) -> None:
        self.journal.append("note", text=text)
        sys.stderr.write(f"stage {self.key}: {text}\n")

    def _resume(self) -> Start | None:
        """Continue from the newest checkpoint that can be trusted; None where there is none."""
        try:
            state = load_state(self.folder.latest)
            masks = load_masks(self.folder.mask) if self.spec.mask else None
        except FileNotFoundError:
            return None
        except CorruptFile as error:
            for path in (self.folder.latest, self.folder.mask):
                if path.exists():
                    set_aside(path)
            self.journal.append("note", text=f"starting over: {error}")
            return None
        self.trainer.set_masks(None)
        self.trainer.load(state, optimizer=True)
        self.trainer.set_masks(masks)
        if self.spec.replay:
            return Start()
        facts = counts(self.spec, masks)
        for record in self.history:
            for name in ("accuracy_pruned", "accuracy_start", "loss_start"):
                if name in record:
                    facts[name] = record[name]
        facts.setdefault("accuracy_pruned", None)
        return Start(masks, facts)

    def _keep_rewind_point(self) -> None:
        step = self.trainer.step
        path = self.folder.rewind(step)
        if step in self._kept_steps() and not path.exists():
            save_state(path, self.trainer.state(), self.key)
            self.journal.append("checkpoint", step=step, file=path.name)

    def _record_epoch(self) -> None:
        seconds = time.monotonic() - self.epoch_started
        train = self.trainer.metrics()
        test = self.trainer.evaluate("test")
        assert test is not None
        validation = self.trainer.evaluate("validation")
        step = self.trainer.step
        every = self.spec.train.evaluate_every or self.steps_total
        record = self.journal.append(
            "epoch",
            epoch=math.ceil(step / every),
            step=step,
            lr=at(self.spec.lr, step - 1),
            rates=[list(run) for run in self.trainer.rates_applied()],
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
        self.diverged = not (math.isfinite(train.loss) and math.isfinite(test.loss))
        self.control.progress |= {"step": step, "loss": test.loss, "accuracy": test.accuracy}
        if self.spec.replay:
            self._compare_with_dense(record)
        self.epoch_started = time.monotonic()

    def _checkpoint_or_stop(self) -> bool:
        """At the end of an epoch: whether the stage stops here."""
        if self.trainer.step >= self.steps_total or self.diverged:
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

    def _finish(self, start: Start) -> None:
        if not self.spec.replay:
            save_state(self.folder.final, self.trainer.state(), self.key)
        result = self._result(start)
        self.journal.append("done", durable=True, **result)
        write_json(self.folder.result, result)
        self.folder.latest.unlink(missing_ok=True)
        self.control.outcome = "done"

    def _result(self, start: Start) -> dict[str, Any]:
        epochs = latest_epochs(self.history)
        last = epochs[-1] if epochs else {}
        test_accuracies = [record["accuracy"] for record in epochs]
        measured = ("train_loss", "train_accuracy", "loss", "accuracy", "top5")
        files = [path for path in sorted(self.folder.folder.glob("*.safetensors"))]
        return {
            "key": self.key,
            "replay": self.spec.replay,
            "seed": self.spec.seed,
            "iteration": self.spec.iteration,
            "steps": self.trainer.step,
            "flag": self._flag(last),
            **start.facts,
            **{name: last.get(name) for name in measured},
            "best_accuracy": max(test_accuracies, default=None),
            "validation_accuracy": last.get("validation_accuracy"),
            "validation_loss": last.get("validation_loss"),
            "epochs": len(epochs),
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
                path.name: path.stat().st_size for path in files if path != self.folder.latest
            },
        }

    def _flag(self, last: Record) -> str | None:
        """``diverged``: a loss that is not finite. ``collapsed``: no better than guessing.

        Guessing is right p = 1/classes of the time; an accuracy within three standard errors √(p(1−p)/n) of that
        cannot be told from it.
        """
        if self.spec.replay:
            return None
        if self.diverged:
            return "diverged"
        chance = 1 / self.spec.network.classes
        error = math.sqrt(chance * (1 - chance) / len(self.trainer.images.test_labels))
        collapsed = last["accuracy"] <= 100 * (chance + 3 * error)
        return "collapsed" if collapsed else None

    def _compare_with_dense(self, record: Record) -> None:
        """A replay must come by what the dense run recorded at the same steps."""
        assert self.spec.weights.stage is not None
        recorded, _ = read(self.paths.stage(self.spec.weights.stage).events)
        for other in latest_epochs(recorded):
            if other["step"] == record["step"]:
                for name in ("train_loss", "loss", "accuracy"):
                    if other[name] != record[name]:
                        raise ReplayDiffers(
                            f"replaying the dense run to step {self.spec.weights.step} gave {name} "
                            f"{record[name]} at step {record['step']}, where {other[name]} was recorded: "
                            "another device, library version or code computed it"
                        )


def latest_epochs(records: list[Record]) -> list[Record]:
    """The epoch records that count, in order: of each epoch the last attempt's."""
    found = {record["epoch"]: record for record in records if record["type"] == "epoch"}
    return [found[epoch] for epoch in sorted(found)]


def device_name(device: str) -> str:
    """What the device calls itself."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
