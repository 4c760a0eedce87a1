"""Verify a store: every checksum, every count, and the database against the files.

Nothing is changed but the database, which is brought up to date first. A stage that is running is checked as far as
it is: its files are replaced atomically, so each is whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prunectl.errors import StoreBusy, StoreError
from prunectl.spec.key import Spec, spec_key
from prunectl.spec.settings import DataSettings
from prunectl.spec.stage import Stage
from prunectl.store import files, requests
from prunectl.store.db import ingest, query
from prunectl.store.db.database import Damaged
from prunectl.store.files import leftovers
from prunectl.store.locks import is_held
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records import dataset
from prunectl.store.records.base import LogRecord, read_record
from prunectl.store.records.events import Epoch, latest_epochs, read_events
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.journal import Log
from prunectl.store.records.plan import current_studies, read_plan
from prunectl.store.records.provenance import RunRecord
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import read_scheduler_log
from prunectl.store.tensors import CheckedFile, read_checked


@dataclass
class Verdict:
    """The findings of `verify`."""

    stages: int = 0
    done: int = 0
    files: int = 0
    """Checkpoints and masks whose checksums were computed."""
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    """Errors, a sentence each."""
    notes: list[str] = field(default_factory=list)
    """What does no harm but could be removed, or was not checked; a sentence each."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Of the final weights of each done stage, by key."""
    data: set[DataSettings] = field(default_factory=set)
    """What done stages were trained on."""


def verify(paths: StorePaths, progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Check everything; calls `progress` with the stages checked and their total. Raises StoreError without a store."""
    if not files.disk.is_folder(paths.stages) and not files.disk.is_folder(paths.plans):
        raise StoreError(f"{paths.root} holds no results")
    verdict = Verdict()
    folders = [paths.stages / name for name in files.disk.folders(paths.stages)]
    for number, folder in enumerate(folders):
        _StageCheck(paths, StagePaths(folder), verdict).run()
        if progress is not None:
            progress(number + 1, len(folders))
    _check_plans(paths, verdict)
    _check_database(paths, verdict)
    return verdict


class _StageCheck:
    """Checks one stage's folder."""

    def __init__(self, paths: StorePaths, place: StagePaths, verdict: Verdict) -> None:
        self.paths = paths
        self.place = place
        self.verdict = verdict
        self.unusable: set[str] = set()
        """Checkpoints and masks that are told of already."""

    def run(self) -> None:
        self.verdict.stages += 1
        finished = files.disk.exists(
            self.place.result
        )  # before its files: they are written before it
        stage = self._stage()
        found = self._checkpoints()
        records = self._events()
        if finished:
            self.verdict.done += 1
            if stage is not None:
                self.verdict.data.add(stage.data)
            self._result(stage, found, records)
        set_aside = files.disk.glob(self.place.folder, "*.corrupt-*")
        left = [] if is_held(self.place.lock) else leftovers(self.place.folder)
        if set_aside or left:
            names = ", ".join(path.name for path in [*set_aside, *left])
            self.verdict.notes.append(f"stage {self.place.key[:12]}: left over: {names}")

    def _problem(self, text: str) -> None:
        self.verdict.problems.append(f"stage {self.place.key[:12]}: {text}")

    def _stage(self) -> Stage | None:
        """Read what the stage is; None where that cannot be trusted."""
        try:
            spec = read_record(self.place.spec, Spec)
        except FileNotFoundError:
            self._problem("has no spec.json")
            return None
        except StoreError as error:
            self._problem(f"spec.json is unusable: {error}")
            return None
        if spec_key(spec) != self.place.key:
            self._problem("spec.json describes another stage than its folder's name")
            return None
        return spec.stage

    def _checkpoints(self) -> dict[str, CheckedFile]:
        found = {}
        for path in files.disk.glob(self.place.folder, "*.safetensors"):
            try:
                checked = read_checked(path)
            except FileNotFoundError:  # replaced or removed by its worker just now
                continue
            except StoreError as error:
                self.verdict.problems.append(str(error))
                self.unusable.add(path.name)
                continue
            self.verdict.files += 1
            self.verdict.bytes += files.disk.status(path).size
            if checked.stage != self.place.key:
                self._problem(f"{path.name} is of stage {checked.stage}")
            found[path.name] = checked
        return found

    def _events(self) -> Sequence[LogRecord] | None:
        """Read the log; None where it cannot be read."""
        try:
            log = read_events(self.place.events)
        except StoreError as error:
            self.verdict.problems.append(str(error))
            return None
        for problem in log.problems.values():
            self._problem(f"events.jsonl {problem}")
        if not log.bad and not _in_sequence(log):
            self._problem("records are missing from events.jsonl, or stand in it twice")
        if any(isinstance(each, Epoch) and each.epoch < 1 for each in log.records):
            self._problem("events.jsonl has an epoch without its number")
        return log.records

    def _result(
        self,
        stage: Stage | None,
        found: dict[str, CheckedFile],
        records: Sequence[LogRecord] | None,
    ) -> None:
        try:
            result = read_record(self.place.result, Result)
            if result.key != self.place.key:
                self._problem("result.json is of another stage")
            if result.replay or stage is None:
                return
            if records is not None:
                self._epochs(result, latest_epochs(records))
            for path in [self.place.final, *([self.place.mask] if stage.mask else [])]:
                if path.name not in found and path.name not in self.unusable:
                    self._problem(f"is done, but {path.name} is missing")
            if self.place.final.name in found:
                self.verdict.checksums[self.place.key] = found[self.place.final.name].checksum
            if self.place.mask.name in found:
                self._mask(stage, result, found[self.place.mask.name])
        except StoreError as error:
            self._problem(f"result.json is unusable: {error}")

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
            if name in before and bool(np.any(mask & ~before[name])):
                self._problem(f"weights of {name} came back that {parent.parent.name[:12]} pruned")


def _in_sequence(log: Log[Any]) -> bool:
    return [record.seq for record in log.records] == list(range(len(log.records)))


def _check_plans(paths: StorePaths, verdict: Verdict) -> None:
    def check(path: Path, read: Callable[[Path], object]) -> None:
        try:
            read(path)
        except StoreError as error:
            verdict.problems.append(str(error))

    for path in files.disk.glob(paths.plans, "*.json"):
        check(path, read_plan)
    verdict.problems += dataset.unreadable(paths)
    for path in files.disk.glob(paths.runs, "*.json"):
        check(path, lambda path: read_record(path, RunRecord))
    with contextlib.suppress(FileNotFoundError):
        check(paths.heartbeat, lambda path: read_record(path, HeartbeatRecord))
    verdict.problems += requests.unreadable(paths)
    try:
        log = read_scheduler_log(paths.scheduler_log)
    except StoreError as error:
        verdict.problems.append(str(error))
        return
    verdict.problems += (f"{paths.scheduler_log} {problem}" for problem in log.problems.values())
    if not log.bad and not _in_sequence(log):
        verdict.problems.append("records are missing from scheduler.jsonl, or stand in it twice")


_UNDESCRIBED = "SELECT split_part(source, '/', 2) FROM left_out WHERE source LIKE '%/spec.json'"
ORPHANS = {
    table: f"SELECT count(*) FROM {table} WHERE stage NOT IN (SELECT stage FROM stages) "
    f"AND stage NOT IN ({_UNDESCRIBED})"
    for table in ("epochs", "layers", "rates", "paths")
} | {
    "stages": "SELECT count(*) FROM stages WHERE done AND stage NOT IN (SELECT source FROM ingested)",
    "events": "SELECT count(*) FROM events WHERE stage IS NOT NULL AND log <> 'scheduler' "
    f"AND stage NOT IN (SELECT stage FROM stages) AND stage NOT IN ({_UNDESCRIBED})",
    "plan_trials": "SELECT count(*) FROM plan_trials WHERE trial NOT IN (SELECT trial FROM trials)",
}
"""Queries that count rows without the stage or trial they belong to, but for stages whose description is left out."""


def _check_database(paths: StorePaths, verdict: Verdict) -> None:
    """Compare the database with the files."""
    try:
        report = ingest.ingest(paths)
        if report.busy:
            raise StoreBusy(f"{paths.database} is held by another process")
        verdict.problems += report.notes
        try:
            query.read_all(paths)
        except Damaged as error:
            verdict.problems.append(f"{error}: it is made anew from the files")
            ingest.rebuild(paths)
        for problem in _rows(paths):
            verdict.problems.append(f"results.duckdb: {problem}; `prunectl store rebuild`")
    except StoreError as error:
        verdict.notes.append(f"the database was not looked at: {error}")


def _rows(paths: StorePaths) -> Iterator[str]:
    for table, sql in ORPHANS.items():
        if count := query.run(paths, sql).rows[0][0]:
            yield f"{count} rows of {table} belong to no stage or trial"
    marked = {row[0] for row in query.run(paths, "SELECT stage FROM stages WHERE done").rows}
    left_out = query.left_out(paths)
    real = {
        path.parent.name
        for path in files.disk.glob(paths.stages, "*/result.json")
        if path.relative_to(paths.root).as_posix() not in left_out
    }
    if marked != real:
        yield f"{len(marked ^ real)} stages are done in one of database and files only"
    asked = {
        (trial.id, iteration)
        for study in current_studies(paths)
        for trial in study.trials
        for iteration, key in enumerate(trial.path)
        if key in real
    }
    rows = query.run(paths, "SELECT trial, iteration FROM iterations").rows
    if len(rows) != len(set(rows)):
        yield f"{len(rows) - len(set(rows))} iterations stand in it twice"
    if missing := asked - set(rows):
        yield f"{len(missing)} finished iterations are missing"
