"""What is new in the files of a store, put into an open results.duckdb: a batch of stages per transaction."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from prunectl.errors import StoreError
from prunectl.store.db import rows as records
from prunectl.store.db.database import Connection
from prunectl.store.db.ingest_offsets import Mark, head, numbered, stamp
from prunectl.store.db.rows import MALFORMED, LogRows, PlanRows, Row
from prunectl.store.db.statements import Statements
from prunectl.store.files import read_json
from prunectl.store.paths import StorePaths

SCHEDULER = "scheduler"
"""The scheduler's log in `events.log` and `ingested.source`."""


class Outdated(Exception):
    """The database holds what is no longer in the files, and has to be made anew."""


class Report(Protocol):
    """What a loader counts into."""

    stages: int
    records: int
    finished: int
    notes: list[str]


class Loader:
    """Reads what is new of a store into one open connection."""

    def __init__(self, paths: StorePaths, connection: Connection, report: Report) -> None:
        self.paths = paths
        self.connection = connection
        self.tables = Statements(connection)
        self.report = report

    # What no stage knows

    def load_plans_and_runs(self) -> None:
        """Plans, runs and the scheduler's log, in one transaction.

        Raises Outdated where a plan or a run that was read is gone: what it brought in cannot be told apart.
        """
        marks = self.tables.marks("length(source) <> 64")
        for source in marks:
            if source != SCHEDULER and not (self.paths.root / source).exists():
                raise Outdated(f"{source} was removed")
        self.connection.begin()
        self._load_plans(marks)
        self._load_runs(marks)
        self._load_scheduler_log(marks.get(SCHEDULER, Mark()))
        self.connection.commit()

    def _changed(self, folder: Path, marks: dict[str, Mark]) -> dict[str, tuple[Any, Mark]]:
        """New content of the folder's JSON files by name, for files that are new or replaced."""
        out = {}
        for path in sorted(folder.glob("*.json")):
            source = f"{folder.name}/{path.name}"
            now = stamp(path)
            if now == marks.get(source, Mark()).stamp:
                continue
            content = self._json(path)
            if isinstance(content, dict):
                out[path.stem] = content, Mark(stamp=now)
            elif content is not None:
                self.tables.mark({source: Mark(stamp=now)})  # named once is enough
        return out

    def _json(self, path: Path) -> Any:
        """The file's content; None where it is missing, False, with a note, where it is no JSON object."""
        try:
            content = read_json(path)
        except FileNotFoundError:
            return None
        except StoreError as error:
            self.report.notes.append(f"left out: {error}")
            return False
        if isinstance(content, dict):
            return content
        self.report.notes.append(f"left out: {path} is no JSON object")
        return False

    def _load_plans(self, marks: dict[str, Mark]) -> None:
        changed = self._changed(self.paths.plans, marks)
        if not changed:
            return
        newest = self.tables.scalar("SELECT max(created) FROM plans")
        plans: list[PlanRows] = []
        for digest, (content, mark) in changed.items():
            try:
                plans.append(PlanRows.of(digest, content))
            except MALFORMED as error:
                self.report.notes.append(f"left out: plans/{digest}.json is no plan: {error!r}")
            self.tables.mark({f"plans/{digest}.json": mark})
        # In the order they were made: a trial's labels are those of the newest plan that has it.
        for plan in sorted(plans, key=lambda plan: (str(plan.created or ""), plan.digest)):
            older = newest is not None and plan.created is not None and plan.created < newest
            self._load_plan(plan, keep_known=older)

    def _load_plan(self, plan: PlanRows, *, keep_known: bool) -> None:
        put = self.tables.put
        put("plans", records.PLAN, [plan.row])
        self.connection.execute("DELETE FROM plan_trials WHERE digest = $1", [plan.digest])
        members = [(plan.digest, trial, i) for i, trial in enumerate(plan.trials)]
        put("plan_trials", ("digest", "trial", "position"), members)
        chosen = list(plan.trials)
        if keep_known:
            sql = "SELECT trial FROM trials WHERE trial IN (SELECT unnest($1))"
            known = set(self.tables.column(sql, chosen))
            chosen = [trial for trial in chosen if trial not in known]
        self.connection.execute("DELETE FROM paths WHERE trial IN (SELECT unnest($1))", [chosen])
        put("trials", (*records.TRIAL, "iterations"), [plan.trials[trial] for trial in chosen])
        paths = [row for trial in chosen for row in plan.paths[trial]]
        put("paths", ("trial", "iteration", "stage", "target_sparsity"), paths)
        put("stages", (*records.SPEC, "epoch_steps"), plan.stages)

    def _load_runs(self, marks: dict[str, Mark]) -> None:
        changed = self._changed(self.paths.runs, marks)
        rows = []
        for name, (content, _) in changed.items():
            try:
                rows.append(records.run_row(name, content))
            except MALFORMED as error:
                self.report.notes.append(f"left out: runs/{name}.json is no run: {error!r}")
        self.tables.put("runs", records.RUN, rows)
        self.tables.mark({f"runs/{name}.json": mark for name, (_, mark) in changed.items()})

    def _load_scheduler_log(self, mark: Mark) -> None:
        rows = LogRows()
        moved = self._read_log(SCHEDULER, self.paths.scheduler_log, mark, rows)
        if moved is not None:
            self._put_log(rows)
            self.tables.mark({SCHEDULER: moved})

    # Stages

    def pending(self, keys: Iterable[str] | None) -> list[str]:
        """Those of the stages that have something new; with None all are looked at, and stages whose folder is
        gone are forgotten."""
        if keys is not None:
            return list(dict.fromkeys(keys))
        marks = self.tables.marks("length(source) = 64")
        try:
            with os.scandir(self.paths.stages) as entries:
                found = sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            found = []
        here = set(found)
        gone = [source for source in marks if source not in here]
        if gone:
            self.connection.begin()
            self._forget(gone)
            self.connection.commit()
        return [key for key in found if self._is_new(key, marks.get(key, Mark()))]

    def _is_new(self, key: str, mark: Mark) -> bool:
        stage = self.paths.stage(key)
        if stamp(stage.result) != mark.stamp:
            return True
        try:
            return stage.events.stat().st_size != mark.bytes
        except FileNotFoundError:
            return mark.bytes != 0

    def load_stages(self, keys: Sequence[str]) -> None:
        """What is new of these stages, in one transaction."""
        if not keys:
            return
        self.connection.begin()
        marks = self.tables.marks("source IN (SELECT unnest($1))", list(keys))
        known = set(marks)  # what a stage is was read with the first of its records
        if fresh := [key for key in keys if key not in known]:
            query = "SELECT stage FROM stages WHERE network IS NOT NULL AND stage IN (SELECT unnest($1))"
            known.update(self.tables.column(query, fresh))
        rows = LogRows()
        specs: list[Row] = []
        results: list[Row] = []
        moved: dict[str, Mark] = {}
        for key in keys:
            mark = marks.get(key, Mark())
            try:
                now, result = self._read_stage(key, mark, rows)
            except MALFORMED as error:
                self.report.notes.append(f"left out: stages/{key}: {error!r}")
                continue
            if now is None and result is None:
                continue
            self.report.stages += 1
            if key not in known:
                spec = self._json(self.paths.stage(key).spec)
                specs.append(records.spec_row(key, spec if isinstance(spec, dict) else {}))
            if result is not None:
                results.append(result)
            moved[key] = now or mark
        self.tables.put("stages", records.SPEC, specs)
        self.tables.put("stages", records.RESULT, results)
        self._put_log(rows)
        self.tables.mark(moved)
        self.connection.commit()

    def _read_stage(self, key: str, mark: Mark, rows: LogRows) -> tuple[Mark | None, Row | None]:
        """The stage's new mark and its new result row, None where there is nothing new."""
        stage = self.paths.stage(key)
        # Looked at before the log is read: records that a result rests on are in the log before it.
        now = stamp(stage.result)
        moved = self._read_log(key, stage.events, mark, rows)
        if now == mark.stamp:
            return moved, None
        content = (self._json(stage.result) or None) if now else None
        row = records.result_row(key, content)
        if content is not None and not mark.stamp:
            self.report.finished += 1
        return replace(moved or mark, stamp=now), row

    def _read_log(self, log: str, path: Path, mark: Mark, rows: LogRows) -> Mark | None:
        """Add the log's new records to `rows`; the new mark, or None where there are none.

        A log that is shorter than before, begins otherwise, or whose numbers do not go on, is another log: it is
        read anew.
        """
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size == mark.bytes:
            return None
        beginning = head(path)
        found, end = numbered(path, mark.bytes) if size > mark.bytes else ([], 0)
        same = size > mark.bytes and beginning == mark.head
        if mark.bytes and not (same and (not found or found[0]["seq"] == mark.next_seq)):
            self._forget([log], keep_result=True)
            found, end = numbered(path, 0)
            mark = Mark(stamp=mark.stamp)
        elif end == mark.bytes:
            return None
        if mark.rate_step is not None and mark.rate is not None:
            rows.last_rate[log] = (mark.rate_step, mark.rate)
        rows.add(log, found)
        self.report.records += len(found)
        next_seq = found[-1]["seq"] + 1 if found else mark.next_seq
        return Mark(end, next_seq, mark.stamp, beginning, *rows.last_rate.get(log, (None, None)))

    def _forget(self, logs: list[str], *, keep_result: bool = False) -> None:
        """Take out what the logs had brought in."""
        columns = {"events": "log", "ingested": "source"}
        for table in ("events", "epochs", "layers", "rates", "ingested"):
            column = columns.get(table, "stage")
            self.connection.execute(
                f"DELETE FROM {table} WHERE {column} IN (SELECT unnest($1))", [logs]
            )
        if not keep_result:
            self.tables.put(
                "stages", records.RESULT, [records.result_row(key, None) for key in logs]
            )

    def _put_log(self, rows: LogRows) -> None:
        self.tables.put(
            "events",
            ("log", "seq", "attempt", "time", "type", "stage", "data"),
            rows.events.values(),
        )
        self.tables.put("epochs", ("stage", "epoch", *records.EPOCH, "time"), rows.epochs.values())
        self.tables.put(
            "layers", ("stage", "position", "layer", "total", "kept"), rows.layers.values()
        )
        self.tables.put("rates", ("stage", "first_step", "lr"), rows.rates.values())
