"""`differences`: what is changed by hand in results.duckdb is named, and what a run writes meanwhile is not."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec.structs import replace

from prunectl.spec.task import CLASSIFICATION
from prunectl.store.db import compare, query
from prunectl.store.db.column_docs import docs
from prunectl.store.db.compare import differences
from prunectl.store.db.ingest import ingest
from prunectl.store.files import set_aside
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import write_record
from prunectl.store.records.events import Epoch, Start
from prunectl.store.records.journal import Journal
from prunectl.store.records.plan import read_plan, write_study
from prunectl.store.records.replication import Outcome, Replication, write_replications
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import Dispatched, RunStarted
from prunectl.store.verdict import Verdict
from prunectl.store.verify_database import check_database
from tests.full import full
from tests.support.fake_store import FakeStore, sha

TABLES = sorted(set(docs().tables) - {"store"})
"""Those that come from the store's files, or with the program."""
OTHER = {
    "BOOLEAN": "true",
    "DOUBLE": "7.25",
    "JSON": "'7'",
    "TIMESTAMP": "TIMESTAMP '2000-01-01'",
    "VARCHAR": "'7'",
    "VARCHAR[]": "['7']",
}
"""A value of each type that no row has; of the others 77."""


pytestmark = pytest.mark.usefixtures("bare_tables")


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> FakeStore:
    """A store in which every table has rows, and a part of the stages is done."""
    made = FakeStore(tmp_path_factory.mktemp("store") / "store")
    digest = made.plan()
    made.run(digests=(digest,))
    made.scheduler(RunStarted(run="r1"))
    keys = list(made.stages)
    for key in keys[::2]:
        made.log(key, range(1, 3))
        made.finish(key)
    result = made.paths.stage(keys[0]).result
    result.write_bytes(result.read_bytes()[:-2])
    outcome = Outcome(score=90.0, loss=0.5)
    replication = Replication(
        bundle=sha("bundle"), plan=digest, key=keys[2], verdict="within", there=outcome, here=outcome
    )  # fmt: skip
    write_replications(made.paths, [replication])
    ingest(made.paths)
    return made


@pytest.fixture
def paths(maker: FakeStore) -> Any:
    """The store, whose database is as it was at the end."""
    data = maker.paths.database.read_bytes()
    yield maker.paths
    maker.paths.database.write_bytes(data)


def columns_of(database: Path, table: str) -> list[tuple[str, str]]:
    """Names and types."""
    with duckdb.connect(str(database), read_only=True) as connection:
        return [row[:2] for row in connection.execute(f"DESCRIBE {table}").fetchall()]


def change(database: Path, *statements: str) -> None:
    """As by hand."""
    with duckdb.connect(str(database)) as connection:
        for statement in statements:
            connection.execute(statement)


def problems(paths: StorePaths) -> list[str]:
    """What `verify` says of the database."""
    verdict = Verdict()
    check_database(paths, verdict)
    assert not verdict.notes
    return verdict.problems


def test_a_database_that_is_up_to_date_is_what_the_files_say(paths: StorePaths) -> None:
    assert problems(paths) == []


@pytest.mark.parametrize("table", sorted({*TABLES} - {"published"}))
def test_a_changed_row_is_named(paths: StorePaths, table: str) -> None:
    """Each column in turn; where it says how far files have been read, they are read again instead."""
    data = paths.database.read_bytes()
    columns = columns_of(paths.database, table)
    for column, kind in columns if full() else random.Random(table).sample(columns, 2):
        first = f'rowid = (SELECT min(rowid) FROM {table} WHERE "{column}" IS NOT NULL)'
        change(paths.database, f'UPDATE {table} SET "{column}" = {OTHER.get(kind, "77")} WHERE {first}')  # fmt: skip
        if paths.database.read_bytes() == data:  # a column without values
            continue
        found = problems(paths)
        if table == "ingested":
            assert found or differences(paths) == []
        else:
            assert [text for text in found if f"1 row of {table} is not what" in text], (
                column,
                found,
            )
        paths.database.write_bytes(data)


@pytest.mark.parametrize("table", ["epochs", "plan_trials", "stages", "events", "t_quantiles"])
def test_rows_that_are_gone_or_more_are_named(paths: StorePaths, table: str) -> None:
    data = paths.database.read_bytes()
    change(
        paths.database, f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} LIMIT 2)"
    )
    assert any(f"2 rows of {table} are not what the files say" in each for each in problems(paths))
    paths.database.write_bytes(data)
    [key, *_] = [column for column, _ in columns_of(paths.database, table)]
    other = "-1" if table == "t_quantiles" else "'another'"
    more = f"SELECT * REPLACE ({other} AS {key}) FROM {table} LIMIT 1"
    change(paths.database, f"INSERT INTO {table} ({more})")
    assert any(f"1 row of {table} is not what the files say" in each for each in problems(paths))


def test_another_view_is_named(paths: StorePaths) -> None:
    change(
        paths.database,
        'CREATE OR REPLACE VIEW iterations AS SELECT * EXCLUDE ("version", "current") '
        'REPLACE (99.9 AS accuracy) FROM iterations_all WHERE "current"',
    )
    [problem] = problems(paths)
    assert "the view iterations is not that of this version" in problem


def test_what_is_written_meanwhile_is_not_compared(
    maker: FakeStore, paths: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs and results that grow, and plans that come, after the database was brought up to date."""
    keys = list(maker.stages)
    fill = compare.ingest.fill
    others = iter(("one more", "and another"))

    def later(*arguments: Any) -> None:
        maker.log(keys[2], range(1, 4), first=False)
        maker.log(keys[1], range(1, 3))
        maker.finish(keys[3])
        maker.scheduler(Dispatched(key=keys[1]))
        maker.plan(next(others), seeds=1)
        fill(*arguments)

    monkeypatch.setattr(compare.ingest, "fill", later)
    assert problems(paths) == []
    change(paths.database, f"UPDATE epochs SET loss = 7.25 WHERE stage = '{keys[4]}' AND epoch = 1")
    [problem] = problems(paths)
    assert f"1 row of epochs is not what the files say, such as of stage {keys[4]}" in problem


# What the files went through, the two say the same


@pytest.fixture
def fresh(tmp_path: Path) -> FakeStore:
    """A store with a plan of one seed, of which nothing was run."""
    made = FakeStore(tmp_path / "fresh")
    made.plan(seeds=1)
    return made


def attempt(maker: FakeStore, key: str, begun: float, loss: float) -> None:
    """One epoch and the result, the log as long for any `begun` and `loss` with as many digits."""
    stage = maker.paths.stage(key)
    if not stage.spec.exists():
        maker.log(key, range(1, 2))
        stage.events.unlink()
    with contextlib.closing(Journal(stage.events, clock=lambda: begun)) as journal:
        journal.append(Start(key=key))
        journal.append(Epoch(epoch=1, step=391, loss=loss, score=loss))
        write_record(stage.result, journal.append(Result(key=key, steps=391, epochs=1, loss=loss)))


def test_a_log_of_the_same_length_is_another_one(fresh: FakeStore) -> None:
    """Of two attempts, between which nothing was read: one in four is as long as the other after an epoch."""
    key = next(iter(fresh.stages))
    stage = fresh.paths.stage(key)
    attempt(fresh, key, 1.7e9 + 0.25, 0.25)
    ingest(fresh.paths)
    size = stage.events.stat().st_size
    for path in (stage.result, stage.events):
        set_aside(path)
    attempt(fresh, key, 1.7e9 + 0.75, 0.75)
    assert stage.events.stat().st_size == size
    ingest(fresh.paths)
    sql = "SELECT epochs.loss, stages.loss FROM epochs JOIN stages USING (stage)"
    assert query.run(fresh.paths, sql).rows == [(0.75, 0.75)]
    assert problems(fresh.paths) == []


def test_the_log_of_a_done_stage_is_cut_and_put_back(fresh: FakeStore) -> None:
    key = next(iter(fresh.stages))
    events = fresh.paths.stage(key).events
    attempt(fresh, key, 1.7e9, 0.5)
    ingest(fresh.paths)
    whole = events.read_bytes()
    events.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    [said] = ingest(fresh.paths).left_out
    assert "is not the log that result.json vouches for" in said
    assert problems(fresh.paths) == []
    events.write_bytes(whole)
    assert ingest(fresh.paths).left_out == []
    assert query.left_out(fresh.paths) == {}
    assert query.run(fresh.paths, "SELECT count(*) FROM epochs").rows == [(1,)]
    assert problems(fresh.paths) == []


def test_a_stage_that_no_plan_has_is_forgotten_with_its_folder(fresh: FakeStore) -> None:
    """Such as a replay."""
    [plan] = fresh.paths.plans.glob("*.json")
    fresh.finish_all()
    plan.unlink()
    ingest(fresh.paths)
    shutil.rmtree(fresh.paths.stage(next(iter(fresh.stages))).folder)
    ingest(fresh.paths)
    assert problems(fresh.paths) == []


def test_tasks_measure_what_the_newest_plan_says_whenever_it_came(fresh: FakeStore) -> None:
    [path] = fresh.paths.plans.glob("*.json")
    study = read_plan(path)
    for digest, created, digits in ((study.digest, 200.0, 2), ("0" * 16, 100.0, 3)):
        metrics = tuple(replace(each, digits=digits) for each in CLASSIFICATION.metrics)
        tasks = {"mine": replace(CLASSIFICATION, metrics=metrics)}
        write_study(fresh.paths, replace(study, digest=digest, tasks=tasks, created=created))
        ingest(fresh.paths)
    sql = "SELECT DISTINCT digits FROM tasks WHERE task = 'mine'"
    assert query.run(fresh.paths, sql).rows == [(2,)]
    assert problems(fresh.paths) == []


@pytest.mark.parametrize("pattern", ["plans/*.json", "stages/*/spec.json", "runs/*.json"])
def test_what_cannot_be_read_any_more_is_not_the_databases_fault(
    fresh: FakeStore, pattern: str
) -> None:
    """It keeps what it had read, which a new one would not have."""
    fresh.run()
    fresh.finish_all()
    ingest(fresh.paths)
    path = next(fresh.paths.root.glob(pattern))
    path.write_bytes(path.read_bytes()[:-9])
    assert problems(fresh.paths) == []
