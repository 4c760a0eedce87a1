"""A run whose database is read all the time, or written by another: it never waits, and readers see it grow."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from types import SimpleNamespace

import duckdb
import pytest

from prunectl.scheduler.ingestion import Ingestion
from prunectl.store.db import query
from prunectl.store.db.ingest import IngestReport, ingest, rebuild
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.heartbeat import HeartbeatRecord, read_heartbeat
from prunectl.store.records.scheduler_log import RunEnded, RunStarted
from tests.full import full
from tests.support.fake_plan import Plan, dense
from tests.support.readers import SQL, Reader, reading
from tests.support.scheduler_lab import Store

BEHIND = 5.0
"""Seconds that a reader's answer may be behind the run, beside what ingestion takes."""


pytestmark = pytest.mark.usefixtures("bare_tables")


def plan_of(stages: int) -> Plan:
    plan = Plan()
    for seed in range(stages):
        plan.trial(dense(seed, steps=10))
    return plan


def stages_done(paths: StorePaths) -> int:
    [(found,)] = query.run(paths, SQL).rows
    return int(found)


def test_readers_in_loops_put_nothing_off(store: Store) -> None:
    """Ten of them in the full form, which prints the figures; two are the command itself.

    What is asserted does not depend on how busy the machine is: how long ingestion itself takes is printed alone.
    """
    askers, commands, stages = (8, 2, 400) if full() else (3, 1, 100)
    digest = store.save(plan_of(stages))
    store.fake(seconds=0.02)
    ingest(store.paths)
    beats: list[HeartbeatRecord] = []
    readers: list[Reader] = []
    times: list[tuple[float, float]] = []

    def timed(paths: StorePaths, keys: set[str]) -> IngestReport:
        started = time.monotonic()
        report = ingest(paths, keys)
        times.append((started, time.monotonic()))
        return report

    with contextlib.ExitStack() as stack:

        def begin(record: LogRecord) -> None:
            # Not before: as long as no scheduler is alive the command brings the database up to date itself.
            if isinstance(record, RunStarted):
                for what, count in (("ask", askers), ("command", commands)):
                    readers.extend(stack.enter_context(reading(store.paths, what, count)))

        assert store.run(digest, ingest=timed, on_heartbeat=beats.append, on_record=begin).ok
        followed = beats[-1].ingestion
        answers = [reader.end() for reader in readers]
    pauses = [begun - ended for (_, ended), (begun, _) in itertools.pairwise(times)]
    print(
        f"\n{len(readers)} readers, {sum(each.answered for each in answers)} answers, {len(beats)} heartbeats; "
        f"ingested {followed.done} times, put off {followed.put_off} times, at most {followed.longest:.1f} s behind; "
        f"an ingestion took at most {max(end - start for start, end in times):.1f} s"
    )
    assert followed.done == len(times) > 1
    assert followed.put_off == 0
    assert sum(pause > BEHIND for pause in pauses) == 0
    assert all(each.answered and not each.refused for each in answers)
    assert {each.last for each in answers} == {stages}
    assert not list(store.paths.root.glob("results.duckdb?*")), "no reader took it for damaged"


def test_readers_that_never_let_go_keep_what_they_have_and_others_see_what_is_new(
    store: Store,
) -> None:
    digest = store.save(plan_of(20))
    ingest(store.paths)
    with reading(store.paths, "hold", 2) as readers:
        assert store.run(digest, ingest=ingest).ok
        assert stages_done(store.paths) == 20
        assert read_heartbeat(store.paths).ingestion.put_off == 0
        assert {reader.end().last for reader in readers} == {0}
    with reading(store.paths, "hold", 2):
        rebuild(store.paths, patience=0.0)
    assert stages_done(store.paths) == 20
    assert not list(store.paths.root.glob("results.duckdb?*"))


def test_what_a_killed_writer_left_beside_the_file_is_in_the_copy(store: Store) -> None:
    """The write-ahead log, which is folded in when a writer closes, and stays where it is killed."""
    digest = store.save(plan_of(3))
    ingest(store.paths)
    with duckdb.connect(str(store.paths.database)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("CREATE TABLE kept AS SELECT 7 AS x")
    assert list(store.paths.root.glob("results.duckdb.wal"))
    with reading(store.paths, "hold", 1):
        assert store.run(digest, ingest=ingest).ok
    assert query.run(store.paths, "SELECT x FROM kept").rows == [(7,)]
    assert stages_done(store.paths) == 3
    assert not list(store.paths.root.glob("results.duckdb?*"))


def test_another_writer_has_ingestion_put_off_and_counted_while_the_run_goes_on(
    store: Store,
) -> None:
    digest = store.save(plan_of(20))
    ingest(store.paths)
    with reading(store.paths, "write", 1):
        assert store.run(digest, ingest=ingest).ok
        beat = read_heartbeat(store.paths)
    assert beat.ingestion.put_off >= 1
    assert "results.duckdb is held by another program; it will catch up" in (beat.trouble or "")
    assert not ingest(store.paths).busy
    assert stages_done(store.paths) == 20


def test_a_run_does_not_wait_for_ingestion_until_its_end(store: Store) -> None:
    """Ingestion that does not come back before all stages are done: they are done all the same."""
    over = threading.Event()

    def wait_for_the_end(record: LogRecord) -> None:
        if isinstance(record, RunEnded):
            over.set()

    def blocked(paths: StorePaths, keys: set[str]) -> None:
        assert over.wait(60), "the run waits for its database"

    digest = store.save(plan_of(20))
    assert store.run(digest, ingest=blocked, on_record=wait_for_the_end).ok
    assert read_heartbeat(store.paths).ingestion.put_off == 0


def test_what_was_put_off_counts_from_when_it_came(store: Store) -> None:
    answers = [SimpleNamespace(busy=True), SimpleNamespace(busy=True), SimpleNamespace(busy=False)]
    asked: list[set[str]] = []

    def some_busy(_: StorePaths, keys: set[str]) -> object:
        asked.append(keys)
        return answers[len(asked) - 1]

    ingestion = Ingestion(store.paths, some_busy, every=0.0)
    ingestion.changed(["a"])
    for _ in answers:
        ingestion.close()
    beat = ingestion.beat()
    assert (beat.done, beat.put_off) == (1, 2)
    assert asked == [{"a"}] * 3
    waited = beat.longest
    ingestion.close()
    assert len(asked) == 3, "nothing is new"
    assert ingestion.beat().longest == waited > 0
