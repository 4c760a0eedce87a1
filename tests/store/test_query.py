"""Questions only read, say what is wrong, and find or make the database."""

import threading
import time

import duckdb
import pytest

from prunectl.errors import QueryError, StoreError, UnknownName
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest
from prunectl.store.db.queries import parse, queries, run_query
from prunectl.store.db.replica import Replica
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.scheduler_log import StageFailed
from tests.support.fake_store import FakeStore


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    made = FakeStore(tmp_path_factory.mktemp("filled"), epochs=182)
    digests = (made.plan("demo", strategies=("fine-tune", "weight-rewind", "lr-rewind")),)
    made.epochs = 3
    made.run(digests=digests)
    keys = list(made.stages)
    for key in keys[:-1]:
        made.finish(key, retrain_epochs=182.0)
    made.finish(keys[1], dead_layers=["layer3"])
    made.scheduler(StageFailed(key=keys[-1], reason="oom", message="CUDA out of memory"))
    ingest(made.paths)
    return made.paths


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    paths = StorePaths(tmp_path_factory.mktemp("empty"))
    ingest(paths)
    return paths


def test_answers_have_names_types_and_rows(filled):
    found = query.run(filled, "SELECT $n::INTEGER AS a, 'x' AS b", {"n": 7})
    assert (found.columns, found.types, found.rows) == (
        ("a", "b"),
        ("INTEGER", "VARCHAR"),
        [(7, "x")],
    )
    assert found.dicts() == [{"a": 7, "b": "x"}]
    assert not found.truncated


def test_a_limit_says_that_there_is_more(filled):
    assert query.run(filled, "SELECT * FROM range(5)", limit=5).truncated is False
    found = query.run(filled, "SELECT * FROM range(5)", limit=3)
    assert (len(found.rows), found.truncated) == (3, True)


@pytest.mark.parametrize(
    ("sql", "doing"),
    [
        ("DELETE FROM epochs", "writes"),
        ("INSERT INTO rates VALUES ('x', 1, 0.1)", "writes"),
        ("CREATE TABLE x (a INTEGER)", "writes"),
        ("WITH d AS (DELETE FROM epochs RETURNING *) SELECT * FROM d", "writes"),
        ("COPY epochs TO '/tmp/x.csv'", "reads or writes files"),
        ("SELECT * FROM read_text('/etc/passwd')", "reads or writes files"),
        ("ATTACH '/tmp/other.duckdb'", "reads or writes files"),
        ("INSTALL httpfs; LOAD httpfs", "files"),
        ("SET threads = 4", "changes settings"),
    ],
)
def test_what_does_not_read_is_refused_with_a_sentence(filled, sql, doing):
    with pytest.raises(QueryError, match=rf"this statement .*{doing}.* only read the store"):
        query.run(filled, sql)


def test_sql_mistakes_come_with_their_place(filled):
    with pytest.raises(QueryError, match=r"(?s)nope.*LINE 1: SELECT nope.*\^"):
        query.run(filled, "SELECT nope FROM epochs")
    with pytest.raises(QueryError, match="parameters"):
        query.run(filled, "SELECT $missing")


def test_a_store_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(StoreError, match="holds no results"):
        query.run(StorePaths(tmp_path / "nowhere"), "SELECT 1")
    assert not (tmp_path / "nowhere").exists()


def test_stage_folders_without_a_database_are_read_first(tmp_path):
    made = FakeStore(tmp_path)
    made.plan()
    made.finish_all()
    found = query.run(made.paths, "SELECT count(*) FROM stages WHERE done")
    assert found.rows == [(len(made.stages),)]


def test_readers_and_the_writer_take_turns(tmp_path):
    """Two readers, each at up to 50 Hz, against twenty ingestions: nobody fails."""
    made = FakeStore(tmp_path)
    made.plan()
    made.finish_all()
    ingest(made.paths)
    failures = []
    stop = threading.Event()

    def read():
        try:
            while not stop.is_set():
                assert query.run(made.paths, "SELECT count(*) FROM epochs", patience=60).rows
                time.sleep(0.02)
        except Exception as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    reports = [ingest(made.paths, list(made.stages)[:1], patience=60) for _ in range(20)]
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert not any(report.busy for report in reports)


def test_parquet_keeps_types(filled, tmp_path):
    found = query.run(
        filled, "SELECT stage, dead_layers, seconds, started, spec FROM stages ORDER BY 1"
    )
    query.write_parquet(found, tmp_path / "it's.parquet")
    with duckdb.connect(":memory:") as connection:
        back = connection.execute(
            "SELECT * FROM read_parquet($1)", [str(tmp_path / "it's.parquet")]
        ).fetchall()
    assert back == found.rows


# Queries with a name

EMPTY_IN_THE_EXAMPLE = {"dead-layers", "equal-cost", "ours-vs-published"}


@pytest.mark.parametrize("name", queries())
def test_every_query_answers(name, filled, empty):
    assert queries()[name].description
    assert run_query(empty, name).rows == []
    found = run_query(filled, name)
    assert bool(found.rows) != (name in EMPTY_IN_THE_EXAMPLE)


def test_there_are_at_least_a_dozen():
    assert len(queries()) >= 12


def test_parameters_of_queries(filled):
    found = run_query(filled, "cost-to-reach", {"loss": "0.1"})
    assert len(found.rows) < len(run_query(filled, "cost-to-reach", {"loss": "10"}).rows)
    assert len(run_query(filled, "slowest-stages", {"count": "2"}).rows) == 2
    with pytest.raises(QueryError, match="no parameter 'x'; it has: count"):
        run_query(filled, "slowest-stages", {"x": "2"})
    with pytest.raises(UnknownName, match="did you mean 'leaderboard'"):
        run_query(filled, "leaderbord")


def test_numbers_of_some_queries(filled):
    missing = run_query(filled, "seeds-missing").dicts()
    assert [row["iteration"] for row in missing] == [3]
    failures = run_query(filled, "failures-by-reason").dicts()
    assert [(f["reason"], f["failures"], f["done_since"]) for f in failures] == [("oom", 1, 0)]
    shared = run_query(filled, "shared-stages").dicts()[0]
    assert (shared["stages_without_sharing"], shared["stages"]) == (36, 30)
    rates = run_query(filled, "learning-rates").dicts()
    assert {(r["first_step"], r["lr"]) for r in rates} == {(0, 0.1), (586, 0.01)}


def test_a_users_query_stands_beside_ours_and_may_replace_one(tmp_path):
    made = FakeStore(tmp_path)
    made.plan()
    made.paths.queries.mkdir()
    (made.paths.queries / "mine.sql").write_text(
        "-- Twice\n-- :n\n-- :m 3\nSELECT 2 * $n::INT * $m::INT AS x"
    )
    (made.paths.queries / "runs.sql").write_text("-- Other\nSELECT 1", encoding="utf-8-sig")
    assert queries(made.paths)["runs"].description == "Other"
    assert run_query(made.paths, "mine", {"n": "4"}).rows == [(24,)]
    assert run_query(made.paths, "runs").rows == [(1,)]
    with pytest.raises(QueryError, match="needs n"):
        run_query(made.paths, "mine")


def test_a_query_without_comments_has_no_description():
    assert parse("x", "SELECT 1").description == ""


def test_a_copy_is_asked_alike_and_can_be_changed_alone(filled):
    sql = "SELECT stage, count(*) FROM epochs GROUP BY ALL ORDER BY ALL"
    replica = Replica(filled)
    try:
        assert replica.run(sql, limit=500) == query.run(filled, sql, limit=500)
        assert replica.run("SELECT * FROM range($n::INTEGER)", 3, {"n": "5"}).truncated
        with pytest.raises(QueryError, match="nope"):
            replica.run("SELECT nope FROM epochs", limit=1)
        ingest(filled, patience=0.0)  # the store's own file is free
        replica.run("DELETE FROM epochs", limit=1)
        assert replica.run(sql, limit=500).rows == []
        assert query.run(filled, sql).rows
    finally:
        replica.close()


def test_beside_a_live_scheduler_new_plans_alone_are_loaded_and_only_if_asked_for(tmp_path):
    made = FakeStore(tmp_path)
    made.plan("first")
    query.bring_up_to_date(made.paths)
    made.plan("second")
    made.finish_all()
    done, plans = "SELECT count(*) FROM stages WHERE done", "SELECT count(*) FROM plans"
    with Lock(made.paths.scheduler_lock):
        assert query.bring_up_to_date(made.paths) == []
        assert query.run(made.paths, plans).rows == [(1,)]
        assert query.bring_up_to_date(made.paths, stages=()) == []
        assert query.run(made.paths, plans).rows == [(2,)]
        assert query.run(made.paths, done).rows == [(0,)]
    assert query.bring_up_to_date(made.paths) == []
    assert query.run(made.paths, done).rows == [(len(made.stages),)]
