"""Verify a store: every checksum, every count, and the database against the files.

Nothing is changed but the database, which is brought up to date first. A stage that is running is checked as far as
it is: its files are replaced atomically, so each is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prunectl.errors import StoreBusy, StoreError
from prunectl.store.db import ingest, query
from prunectl.store.files import leftovers, read_json
from prunectl.store.journal import Record, read
from prunectl.store.locks import is_held
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.events import latest_epochs
from prunectl.store.records.plan import current_studies
from prunectl.store.tensors import CheckedFile, CorruptFile, read_checked


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


def verify(paths: StorePaths, progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Check everything; calls `progress` with the stages checked and their total. Raises StoreError without a store."""
    if not paths.stages.is_dir() and not paths.plans.is_dir():
        raise StoreError(f"{paths.root} holds no results")
    verdict = Verdict()
    folders = sorted(path for path in paths.stages.glob("*") if path.is_dir())
    for number, folder in enumerate(folders):
        _StageCheck(paths, StagePaths(folder), verdict).run()
        if progress is not None:
            progress(number + 1, len(folders))
    _check_plans(paths, verdict)
    _check_database(paths, verdict)
    return verdict


class _StageCheck:
    """Checks one stage's folder."""

    def __init__(self, paths: StorePaths, files: StagePaths, verdict: Verdict) -> None:
        self.paths = paths
        self.files = files
        self.verdict = verdict

    def run(self) -> None:
        self.verdict.stages += 1
        finished = self.files.result.exists()  # before its files: they are written before it
        spec = self._spec()
        if not spec:
            return
        found = self._checkpoints()
        records = self._events()
        if finished:
            self.verdict.done += 1
            self._result(spec, found, records)
        set_aside = list(self.files.folder.glob("*.corrupt-*"))
        left = [] if is_held(self.files.lock) else leftovers(self.files.folder)
        if set_aside or left:
            names = ", ".join(path.name for path in [*set_aside, *left])
            self.verdict.notes.append(f"stage {self.files.key[:12]}: left over: {names}")

    def _problem(self, text: str) -> None:
        self.verdict.problems.append(f"stage {self.files.key[:12]}: {text}")

    def _spec(self) -> dict[str, Any]:
        """Read the stage of spec.json; empty where it cannot be trusted."""
        try:
            spec = read_json(self.files.spec)
            text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
            body: dict[str, Any] = spec["stage"]
        except FileNotFoundError:
            self._problem("has no spec.json")
            return {}
        except (StoreError, TypeError, KeyError) as error:
            self._problem(f"spec.json is unusable: {error!r}")
            return {}
        if hashlib.sha256(text.encode()).hexdigest() != self.files.key:
            self._problem("spec.json describes another stage than its folder's name")
            return {}
        return body

    def _checkpoints(self) -> dict[str, CheckedFile]:
        found = {}
        for path in sorted(self.files.folder.glob("*.safetensors")):
            try:
                checked = read_checked(path)
            except FileNotFoundError:  # replaced or removed by its worker just now
                continue
            except CorruptFile as error:
                self.verdict.problems.append(str(error))
                continue
            self.verdict.files += 1
            self.verdict.bytes += path.stat().st_size
            if checked.stage != self.files.key:
                self._problem(f"{path.name} is of stage {checked.stage}")
            found[path.name] = checked
        return found

    def _events(self) -> list[Record]:
        records, _ = read(self.files.events)
        if not _in_sequence(records):
            self._problem("records are missing from events.jsonl, or stand in it twice")
        numberless = ("epoch" not in each for each in records if each.get("type") == "epoch")
        if any("type" not in each for each in records) or any(numberless):
            self._problem(
                "events.jsonl has a record without its type, or an epoch without its number"
            )
        return records

    def _result(
        self, spec: dict[str, Any], found: dict[str, CheckedFile], records: list[Record]
    ) -> None:
        try:
            result = read_json(self.files.result)
            if result["key"] != self.files.key:
                self._problem("result.json is of another stage")
            if result.get("replay"):
                return
            self._epochs(result, latest_epochs(records))
            for path in [self.files.final, *([self.files.mask] if "mask" in spec else [])]:
                if path.name not in found:
                    self._problem(f"is done, but {path.name} is missing or corrupt")
            if self.files.final.name in found:
                self.verdict.checksums[self.files.key] = found[self.files.final.name].checksum
            if self.files.mask.name in found:
                self._mask(spec, result, found[self.files.mask.name])
        except (StoreError, KeyError, TypeError) as error:
            self._problem(f"result.json is unusable: {error!r}")

    def _epochs(self, result: dict[str, Any], epochs: list[Record]) -> None:
        if result["epochs"] != len(epochs):
            self._problem(
                f"result.json counts {result['epochs']} epochs, events.jsonl {len(epochs)}"
            )
            return
        last = epochs[-1] if epochs else {}
        for name in ("accuracy", "loss", "train_loss"):
            if result.get(name) != last.get(name):
                self._problem(f"{name} in result.json is not that of the last epoch")

    def _mask(self, spec: dict[str, Any], result: dict[str, Any], checked: CheckedFile) -> None:
        masks = checked.masks()
        cut = sum(int((~mask).sum()) for mask in masks.values())
        if result["prunable"] - cut != result["kept"]:
            self._problem(
                f"result.json says {result['kept']} weights are kept, the mask "
                f"{result['prunable'] - cut}"
            )
        parent = self.paths.stage(spec["mask"]["parent"]).mask
        try:
            before = read_checked(parent).masks() if parent.exists() else {}
        except (CorruptFile, OSError):  # reported with the parent
            return
        for name, mask in masks.items():
            if name in before and bool(np.any(mask & ~before[name])):
                self._problem(f"weights of {name} came back that {parent.parent.name[:12]} pruned")


def _in_sequence(records: list[Record]) -> bool:
    return [record.get("seq") for record in records] == list(range(len(records)))


def _check_plans(paths: StorePaths, verdict: Verdict) -> None:
    for path in sorted([*paths.plans.glob("*.json"), *paths.runs.glob("*.json")]):
        try:
            read_json(path)
        except StoreError as error:
            verdict.problems.append(str(error))
    records, _ = read(paths.scheduler_log)
    if not _in_sequence(records):
        verdict.problems.append("records are missing from scheduler.jsonl, or stand in it twice")


ORPHANS = {
    table: f"SELECT count(*) FROM {table} WHERE stage NOT IN (SELECT stage FROM stages)"
    for table in ("epochs", "layers", "rates", "paths")
} | {
    "stages": "SELECT count(*) FROM stages WHERE done AND stage NOT IN (SELECT source FROM ingested)",
    "events": "SELECT count(*) FROM events WHERE stage IS NOT NULL AND log <> 'scheduler' "
    "AND stage NOT IN (SELECT stage FROM stages)",
    "plan_trials": "SELECT count(*) FROM plan_trials WHERE trial NOT IN (SELECT trial FROM trials)",
}
"""Queries that count rows without the stage or trial they belong to."""


def _check_database(paths: StorePaths, verdict: Verdict) -> None:
    """Compare the database with the files."""
    try:
        report = ingest.ingest(paths)
        if report.busy:
            raise StoreBusy(f"{paths.database} is held by another process")
        verdict.problems += report.notes
        for problem in _rows(paths):
            verdict.problems.append(f"results.duckdb: {problem}; `prunectl store rebuild`")
    except StoreError as error:
        verdict.notes.append(f"the database was not looked at: {error}")


def _rows(paths: StorePaths) -> Iterator[str]:
    for table, sql in ORPHANS.items():
        if count := query.run(paths, sql).rows[0][0]:
            yield f"{count} rows of {table} belong to no stage or trial"
    marked = {row[0] for row in query.run(paths, "SELECT stage FROM stages WHERE done").rows}
    real = {path.parent.name for path in paths.stages.glob("*/result.json")}
    if marked != real:
        yield f"{len(marked ^ real)} stages are done in one of database and files only"
    asked = {
        (trial.trial, iteration)
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
