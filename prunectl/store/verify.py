"""Verify a store: every checksum, every count, and the database against the files.

Nothing is changed but the database, which is brought up to date first. A stage that is running is checked as far as
it is: its files are replaced atomically, so each is whole.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from prunectl.errors import StoreError
from prunectl.spec.key import is_key
from prunectl.spec.stage import Stage
from prunectl.store import files, verify_predictions
from prunectl.store.files import leftovers, set_asides
from prunectl.store.locks import is_held
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.progress import Progress, silent
from prunectl.store.records.events import (
    Checkpoint,
    Epoch,
    Event,
    contradicts,
    ends_with,
    impossible_step,
    latest_epochs,
    read_events,
)
from prunectl.store.records.journal import Log
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_result, read_spec
from prunectl.store.refusals import cannot_read, is_refusal
from prunectl.store.tensors import CheckedFile, read_checked
from prunectl.store.verdict import Verdict
from prunectl.store.verify_database import check_database, indexed_lines
from prunectl.store.verify_records import check_records, in_sequence


def verify(paths: StorePaths, progress: Progress = silent) -> Verdict:
    """Check everything; `progress` hears how many stages are checked. Raises StoreError without a store."""
    if not files.disk.is_folder(paths.stages) and not files.disk.is_folder(paths.plans):
        raise StoreError(f"{paths.root} holds no results")
    verdict = Verdict()
    indexed = indexed_lines(paths)  # before it is brought up to date
    folders = files.disk.folders(paths.stages)
    for number, name in enumerate(folders):
        _check_stage(paths, paths.stage(name), verdict)
        progress("stages checked", number + 1, len(folders))
    check_records(paths, verdict, indexed)
    check_database(paths, verdict, progress)
    return verdict


def _check_stage(paths: StorePaths, stage: StagePaths, verdict: Verdict) -> None:
    if not is_key(stage.key):
        verdict.notes.append(f"{stage.folder} is no stage's folder, and was not looked at")
        return
    try:
        StageCheck(paths, stage, verdict).run()
    except OSError as error:
        if not is_refusal(error):
            raise
        verdict.problems.append(str(cannot_read(stage.folder, error)))


class StageCheck:
    """Checks the files of one stage; `run` adds to the verdict."""

    def __init__(self, paths: StorePaths, place: StagePaths, verdict: Verdict) -> None:
        self.paths = paths
        self.place = place
        self.verdict = verdict
        self.unusable: set[str] = set()
        """Checkpoints and masks that are told of already."""

    def run(self) -> None:
        self.verdict.stages += 1
        # Looked at before its files, which are written before it.
        finished = files.disk.exists(self.place.result)
        paths = files.disk.glob(self.place.folder, "*.safetensors")
        checked = {path.name: self.checkpoint(path) for path in paths}
        self.records(finished, {name: found for name, found in checked.items() if found})

    def records(self, finished: bool, found: dict[str, CheckedFile]) -> None:
        """Check the stage's records, and against them its checkpoints and masks, which are sound by themselves."""
        stage = self._stage()
        log = self._events(stage)
        if finished:
            self.verdict.done += 1
            if stage is not None:
                self.verdict.data.add(stage.data)
            self._result(stage, found, log)
        set_aside = set_asides(self.place.folder)
        left = [] if is_held(self.place.lock) else leftovers(self.place.folder)
        self._latest(log, found)
        if set_aside or left:
            names = ", ".join(path.name for path in [*set_aside, *left])
            self.verdict.notes.append(f"stage {self.place.key[:12]}: left over: {names}")

    def _latest(self, log: Log[Event] | None, found: dict[str, CheckedFile]) -> None:
        """Compare the checkpoint that the stage would go on from with what its log says of it."""
        checked = found.get(self.place.latest.name)
        if checked is None or log is None:
            return
        steps = {str(each.step) for each in log.records if isinstance(each, Checkpoint)}
        if checked.metadata.get("step") not in steps:
            self._problem(f"events.jsonl knows of no checkpoint like {self.place.latest.name}")

    def _problem(self, text: str) -> None:
        self.verdict.problems.append(f"stage {self.place.key[:12]}: {text}")

    def _stage(self) -> Stage | None:
        """Read what the stage is; None where that cannot be trusted."""
        try:
            return read_spec(self.place).stage
        except FileNotFoundError:
            self._problem("has no spec.json")
        except StoreError as error:
            self._problem(f"spec.json is unusable: {error}")
        return None

    def checkpoint(self, path: Path) -> CheckedFile | None:
        """Check one checkpoint or mask by itself. Returns its content; None where it is gone or cannot be trusted."""
        try:
            checked = read_checked(path)
        except FileNotFoundError:  # replaced or removed by its worker just now
            return None
        except StoreError as error:
            self.verdict.problems.append(str(error))
            self.unusable.add(path.name)
            return None
        self.verdict.files += 1
        self.verdict.bytes += checked.bytes
        if checked.stage != self.place.key:
            self._problem(f"{path.name} is of stage {checked.stage}")
        step = path.stem.removeprefix("rewind-")
        if step != path.stem and checked.metadata.get("step") != step:
            self._problem(f"{path.name} is of step {checked.metadata.get('step')}")
        # Of large networks not all checkpoints of a stage fit into the memory together.
        is_small = path in (self.place.mask, self.place.predictions)
        return checked if is_small else replace(checked, arrays={})

    def _events(self, stage: Stage | None) -> Log[Event] | None:
        """Read the log; None where it cannot be read."""
        try:
            log = read_events(self.place.events)
        except StoreError as error:
            self.verdict.problems.append(str(error))
            return None
        for problem in log.problems.values():
            self._problem(f"events.jsonl {problem}")
        if not log.bad and not in_sequence(log):
            self._problem("records are missing from events.jsonl, or stand in it twice")
        if any(isinstance(each, Epoch) and each.epoch < 1 for each in log.records):
            self._problem("events.jsonl has an epoch without its number")
        if stage is not None and (said := impossible_step(log.records, stage.steps)):
            self._problem(f"events.jsonl: {said}")
        return log

    def _result(
        self,
        stage: Stage | None,
        found: dict[str, CheckedFile],
        log: Log[Event] | None,
    ) -> None:
        try:
            result = read_result(self.place)
            self._digests(result, found)
            if log is not None and not log.bad and not ends_with(log, result):
                self._problem("events.jsonl is not the log that result.json vouches for")
            elif log is not None and not log.bad and contradicts(log, result):
                self._problem(
                    "events.jsonl says something else of the stage's end than result.json"
                )
            if stage is not None and result.steps > stage.steps:
                self._problem(f"result.json has {result.steps} steps of {stage.steps}")
            if result.replay or stage is None:
                return
            if log is not None:
                self._epochs(result, latest_epochs(log.records))
            predictions = self.place.predictions
            needed = [self.place.final, *([self.place.mask] if stage.mask else [])]
            needed += [predictions] if predictions.name in result.digests else []
            for path in needed:
                if path.name not in found and path.name not in self.unusable:
                    self._problem(f"is done, but {path.name} is missing")
            if self.place.final.name in found:
                self.verdict.checksums[self.place.key] = found[self.place.final.name].checksum
            if self.place.mask.name in found:
                self._mask(stage, result, found[self.place.mask.name])
            checked = found.get(predictions.name)
            for text in verify_predictions.problems(self.paths, stage, result, checked):
                self._problem(text)
        except FileNotFoundError:  # set aside just now, to be made again
            self.verdict.done -= 1
        except StoreError as error:
            self._problem(f"result.json is unusable: {error}")

    def _digests(self, result: Result, found: dict[str, CheckedFile]) -> None:
        """Compare files with what the result says of them. One that is gone was removed: others say if it is needed."""
        if result.lines_before is None:
            return
        for name in found.keys() - {self.place.latest.name}:
            if name not in result.digests:
                self._problem(f"{name} is none of the files that result.json names")
            elif found[name].checksum != result.digests[name]:
                self._problem(f"{name} is not the file that result.json names")

    def _epochs(self, result: Result, epochs: list[Epoch]) -> None:
        if result.epochs != len(epochs):
            self._problem(f"result.json counts {result.epochs} epochs, events.jsonl {len(epochs)}")
            return
        last = epochs[-1] if epochs else Epoch()
        for name in ("score", "loss", "train_loss"):
            if getattr(result, name) != getattr(last, name):
                self._problem(f"{name} in result.json is not that of the last epoch")
        for name, value in last.metrics.items():
            if result.metrics.get(name) != value:
                self._problem(f"{name} in result.json is not that of the last epoch")

    def _mask(self, stage: Stage, result: Result, checked: CheckedFile) -> None:
        masks = checked.masks()
        cut = sum(int((~mask).sum()) for mask in masks.values())
        left = (result.prunable or 0) - cut
        if left != result.kept:
            self._problem(f"result.json says {result.kept} weights are kept, the mask {left}")
        if stage.mask is None:
            return
        parent = self.paths.stage(stage.mask.parent).mask
        try:
            before = read_checked(parent).masks() if files.disk.exists(parent) else {}
        except (StoreError, FileNotFoundError):  # reported with the parent
            return
        for name, mask in masks.items():
            if name in before and mask.shape != before[name].shape:
                self._problem(f"the mask of {name} has another shape than that of the stage before")
            elif name in before and bool(np.any(mask & ~before[name])):
                self._problem(f"weights of {name} came back that {parent.parent.name[:12]} pruned")
