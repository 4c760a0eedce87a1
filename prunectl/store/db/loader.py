"""Load what is new in the files of a store into an open results.duckdb, a batch of stages per transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from prunectl.errors import StoreError
from prunectl.spec.key import is_key
from prunectl.store import files
from prunectl.store.db import database, rows
from prunectl.store.db.correctness import Correctness, came_late
from prunectl.store.db.database import Connection, Row, first_column
from prunectl.store.db.ingest_offsets import (
    Offset,
    file_size,
    file_stamp,
    read_offsets,
    write_offsets,
)
from prunectl.store.db.left_out import UNREADABLE, LeftOut
from prunectl.store.db.log_reader import SCHEDULER, LogReader
from prunectl.store.db.rows import LogRows, PlanRows
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.dataset import read_dataset
from prunectl.store.records.labels import read_labels
from prunectl.store.records.plan import read_plan
from prunectl.store.records.provenance import read_run
from prunectl.store.records.replication import read_replication
from prunectl.store.records.stage import read_result, read_spec
from prunectl.store.refusals import cannot_read

DATASETS = "datasets/"
"""How records of data sets begin in `ingested.source`."""

Converted = TypeVar("Converted")

_TRIALS_OF_NEWER = """
    SELECT DISTINCT trial FROM plan_trials JOIN plans USING (digest), (FROM plans WHERE digest = $1) AS this
    WHERE (coalesce(plans.created, TIMESTAMP '1970-01-01'), plans.digest)
        > (coalesce(this.created, TIMESTAMP '1970-01-01'), this.digest)
"""
"""Trials of the plans that were made after a plan."""


class Outdated(Exception):
    """The database holds what is no longer in the files, and has to be created anew."""


class Report(Protocol):
    """What a loader counts into."""

    stages: int
    records: int
    finished: int
    left_out: list[str]


class Loader:
    """Reads what is new of a store into one open connection."""

    def __init__(self, paths: StorePaths, connection: Connection, report: Report) -> None:
        self.paths = paths
        self.connection = connection
        self.report = report
        self._left_out = LeftOut(paths, connection, report.left_out)
        self._logs = LogReader(paths, connection, report, self._left_out)
        self._correctness = Correctness(connection, self._left_out)

    def _commit(self) -> None:
        self._left_out.write()
        self.connection.commit()

    def _put(
        self, table: str, columns: Sequence[str], content: Iterable[Row], *, new: bool = False
    ) -> None:
        database.upsert(self.connection, table, columns, content, new=new)

    # Plans, runs and the scheduler's log

    def load_plans_and_runs(self) -> None:
        """Load plans, runs, replications, labels and the scheduler's log, in one transaction.

        Raises Outdated where one of these files that was read is gone: what it brought in cannot be told apart; and
        where labels are new that stages were read without.
        """
        offsets = read_offsets(self.connection, "length(source) <> 64")
        for source in offsets:
            lasting = source != SCHEDULER and not source.startswith(DATASETS)
            if lasting and not files.disk.exists(self.paths.root / source):
                raise Outdated(f"{source} was removed")
        self.connection.begin()
        self._load_plans(offsets)
        runs = files.disk.glob(self.paths.runs, "*.json")
        self._put("runs", rows.RUN, self._changed(runs, offsets, self._run_row))
        replications = files.disk.glob(self.paths.replications, "*.json")
        replicated = self._changed(replications, offsets, self._replication_row)
        self._put("replications", rows.REPLICATION, replicated)
        labels = files.disk.glob(self.paths.labels, "*.json")
        self._put_labels(self._changed(labels, offsets, self._labels_row))
        self._look_at_datasets(offsets)
        self._load_mended_specs(offsets)
        self._left_out.forget_missing()
        self._load_scheduler_log(offsets.get(SCHEDULER, Offset()))
        self._commit()

    def _changed(
        self,
        paths: Iterable[Path],
        offsets: Mapping[str, Offset],
        convert: Callable[[Path], Converted],
    ) -> list[Converted]:
        """Convert the records that are new or replaced; leave out those that are malformed."""
        converted = []
        moved = {}
        for path in paths:
            source = self._left_out.source(path)
            stamp = file_stamp(path)
            if stamp == offsets.get(source, Offset()).stamp:
                continue
            self._left_out.look_at(path)
            try:
                converted.append(convert(path))
            except FileNotFoundError:
                continue
            except StoreError as error:
                if not self._left_out.add(path, error):
                    continue
            moved[source] = Offset(stamp=stamp)
        write_offsets(self.connection, moved)
        return converted

    def _look_at_datasets(self, offsets: Mapping[str, Offset]) -> None:
        """Note which records of data sets are damaged: they have no rows."""
        found = files.disk.glob(self.paths.datasets, "*.json")
        self._changed(found, offsets, read_dataset)
        present = {self._left_out.source(path) for path in found}
        gone = [each for each in offsets if each.startswith(DATASETS) and each not in present]
        if gone:
            self._logs.forget(gone)

    def _put_labels(self, found: list[Row]) -> None:
        self._put("labels", rows.LABELS, found)
        if came_late(self.connection, [row[0] for row in found]):
            raise Outdated("labels came after stages that were evaluated on them")

    def _labels_row(self, path: Path) -> Row:
        return rows.labels_row(read_labels(path))

    def _run_row(self, path: Path) -> Row:
        return rows.run_row(path.stem, read_run(path))

    def _replication_row(self, path: Path) -> Row:
        return rows.replication_row(path.stem, read_replication(path))

    def _plan_rows(self, path: Path) -> PlanRows:
        return PlanRows.of(path.stem, read_plan(path))

    def _load_plans(self, offsets: Mapping[str, Offset]) -> None:
        plans = self._changed(files.disk.glob(self.paths.plans, "*.json"), offsets, self._plan_rows)
        # In the order they were made: a trial's labels are those of the newest plan that has it.
        for plan in sorted(plans, key=_age):
            self._load_plan(plan)
        if any(self._newer_trials(plan) for plan in plans if plan.tasks):
            self._load_tasks_in_order()

    def _load_tasks_in_order(self) -> None:
        """Write what tasks measure once more: the newest plan says it, and an older one came after it."""
        records: list[PlanRows] = []
        for path in files.disk.glob(self.paths.plans, "*.json"):
            with contextlib.suppress(FileNotFoundError, StoreError):  # which is left out
                records.append(self._plan_rows(path))
        for plan in sorted(records, key=_age):
            self._put("tasks", rows.TASK, plan.tasks)

    def _newer_trials(self, plan: PlanRows) -> set[str]:
        return set(first_column(self.connection, _TRIALS_OF_NEWER, [plan.digest]))

    def _load_plan(self, plan: PlanRows) -> None:
        self._put("plans", rows.PLAN, [plan.row])
        self.connection.execute("DELETE FROM plan_trials WHERE digest = $1", [plan.digest])
        members = [(plan.digest, trial, i) for i, trial in enumerate(plan.trials)]
        self._put("plan_trials", ("digest", "trial", "position"), members)
        self.connection.execute("DELETE FROM plan_selections WHERE digest = $1", [plan.digest])
        self._put("plan_selections", rows.SELECTION, plan.selections)
        newer = self._newer_trials(plan)
        chosen = [trial for trial in plan.trials if trial not in newer]
        self.connection.execute("DELETE FROM paths WHERE trial IN (SELECT unnest($1))", [chosen])
        self._put("trials", (*rows.TRIAL, "iterations"), [plan.trials[trial] for trial in chosen])
        paths = [row for trial in chosen for row in plan.paths[trial]]
        self._put("paths", ("trial", "iteration", "stage", "target_sparsity"), paths)
        self._put("stages", (*rows.SPEC, "epoch_steps"), plan.stages)
        self._put("tasks", rows.TASK, plan.tasks)

    def _load_mended_specs(self, offsets: Mapping[str, Offset]) -> None:
        """Look again at descriptions that were left out: of other stages they are read once."""
        paths = [self.paths.root / source for source in offsets if source.endswith("/spec.json")]
        self._put("stages", rows.SPEC, self._changed(paths, offsets, self._spec_row))

    def _spec_row(self, path: Path) -> Row:
        return rows.spec_row(path.parent.name, read_spec(StagePaths(path.parent)))

    def _load_scheduler_log(self, offset: Offset) -> None:
        found = LogRows()
        moved = self._logs.read(SCHEDULER, self.paths.scheduler_log, offset, found)
        if moved is not None:
            self._put_log(found)
            write_offsets(self.connection, {SCHEDULER: moved})

    # Stages

    def pending(self, keys: Iterable[str] | None) -> list[str]:
        """List those of the stages that may have something new.

        With None all stages are looked at, and those whose folder is gone are forgotten.
        """
        if keys is not None:
            return list(dict.fromkeys(keys))
        offsets = read_offsets(self.connection, "length(source) = 64")
        found = [name for name in files.disk.folders(self.paths.stages) if is_key(name)]
        gone = list(offsets.keys() - set(found))
        if gone:
            self.connection.begin()
            self._logs.forget(gone)
            for key in gone:
                self._left_out.look_at(self.paths.stage(key).result)
            query = "SELECT DISTINCT stage FROM paths WHERE stage IN (SELECT unnest($1))"
            planned = first_column(self.connection, query, [gone])
            left = [rows.result_row(key, None) for key in planned]
            self._put("stages", rows.RESULT_COLUMNS, left)
            self._forget_correctness(gone)
            others = list({*gone} - {*planned})
            self.connection.execute(
                "DELETE FROM stages WHERE stage IN (SELECT unnest($1))", [others]
            )
            self._commit()
        if not offsets:  # nothing has been read: to look at each would take 3 % of a rebuild
            return found
        return [key for key in found if self._is_new(key, offsets.get(key, Offset()))]

    def _is_new(self, key: str, offset: Offset) -> bool:
        stage = self.paths.stage(key)
        try:
            stamp, size = file_stamp(stage.result), file_size(stage.events)
        except OSError:  # which is told where it is read
            return True
        return (stamp, size) != (offset.stamp, offset.bytes)

    def load_stages(self, keys: Sequence[str]) -> None:
        """Load what is new of these stages, in one transaction."""
        if not keys:
            return
        self.connection.begin()
        offsets = read_offsets(self.connection, "source IN (SELECT unnest($1))", list(keys))
        found = LogRows()
        fresh: list[str] = []
        results: list[Row] = []
        correct: dict[str, Row | None] = {}
        moved: dict[str, Offset] = {}
        for key in keys:
            offset = offsets.get(key, Offset())
            now, result = self._read_stage(key, offset, found, correct)
            if now == offset:
                continue
            self.report.stages += 1
            if key not in offsets:  # what a stage is is read with the first of its records
                fresh.append(key)
            results += result
            moved[key] = now
        self._put("stages", rows.SPEC, self._described(fresh))
        self._put("stages", rows.RESULT_COLUMNS, results)
        self._put_correctness(correct, new=not offsets)
        self._put_log(found, new=not offsets)
        write_offsets(self.connection, moved, new=not offsets)
        self._commit()

    def _put_correctness(self, found: Mapping[str, Row | None], *, new: bool) -> None:
        if not new:
            self._forget_correctness([key for key, row in found.items() if row is None])
        known = [row for row in found.values() if row is not None]
        self._put("correctness", rows.CORRECTNESS, known, new=new)

    def _forget_correctness(self, keys: list[str]) -> None:
        if keys:
            sql = "DELETE FROM correctness WHERE stage IN (SELECT unnest($1))"
            self.connection.execute(sql, [keys])

    def _read_stage(
        self, key: str, offset: Offset, found: LogRows, correct: dict[str, Row | None]
    ) -> tuple[Offset, list[Row]]:
        """Read on in a stage's files. Returns its new offset, and its result row where the result is new or gone.

        Then its row of `correctness` is in `correct`, or None where it has none.
        """
        stage = self.paths.stage(key)
        # Read before the log: records that a result rests on are in the log before it.
        try:
            stamp = file_stamp(stage.result)
        except OSError as error:  # its folder may not be opened
            self._left_out.add(stage.result, cannot_read(stage.result, error))
            return offset, []
        content, is_known = None, stamp == offset.stamp
        if is_known:
            self._left_out.forget(stage.result, UNREADABLE)
        else:
            self._left_out.look_at(stage.result)
            try:
                content = read_result(stage)
            except FileNotFoundError:
                pass
            except StoreError as error:
                is_known = not self._left_out.add(stage.result, error)
        moved = self._logs.read(key, stage.events, offset, found, content) or offset
        if is_known:
            return moved, []
        if content is not None and not offset.stamp:
            self.report.finished += 1
        correct[key], is_all = (
            (None, True) if content is None else self._correctness.row(stage, content)
        )
        moved = moved._replace(stamp=stamp) if is_all else moved
        return moved, [rows.result_row(key, content)]

    def _described(self, keys: Sequence[str]) -> list[Row]:
        """Read what stages are. Returns the rows of those that no plan has described.

        Descriptions that cannot be read are sources of their own, to be looked at again.
        """
        if not keys:
            return []
        query = (
            "SELECT stage FROM stages WHERE network IS NOT NULL AND stage IN (SELECT unnest($1))"
        )
        planned = set(first_column(self.connection, query, [keys]))
        found = []
        moved = {}
        for key in keys:
            stage = self.paths.stage(key)
            path = stage.spec
            stamp = file_stamp(path)
            try:
                spec = read_spec(stage)
                found += [] if key in planned else [rows.spec_row(key, spec)]
            except FileNotFoundError:
                continue
            except StoreError as error:
                final = self._left_out.add(path, error)
                moved[self._left_out.source(path)] = Offset(stamp=stamp if final else "")
        write_offsets(self.connection, moved)
        return found

    def _put_log(self, found: LogRows, *, new: bool = False) -> None:
        """Write what logs have brought in; `new` logs have no rows yet."""
        self._put("events", rows.EVENT, found.events.values(), new=new)
        self._put("epochs", rows.EPOCH_COLUMNS, found.epochs.values(), new=new)
        self._put("layers", rows.LAYER, found.layers.values(), new=new)
        self._put("rates", ("stage", "first_step", "lr"), found.rates.values(), new=new)


def _age(plan: PlanRows) -> tuple[str, str]:
    """Return what plans are sorted by: the newest last."""
    return str(plan.created or ""), plan.digest
