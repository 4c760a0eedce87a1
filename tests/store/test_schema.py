"""The tables are described, versioned, and shipped with the published results."""

import csv
import gzip
from importlib.resources import files
from pathlib import Path

import duckdb
import pytest

from prunectl.errors import StoreError
from prunectl.spec.task import CLASSIFICATION
from prunectl.store.db import ingest, query, schema
from prunectl.store.db.column_docs import AS_IN, FIELDS, MEASURED, RECORDS, docs
from prunectl.store.db.queries import queries
from prunectl.store.records.texts import described, measured
from tests.support.fake_store import FakeStore

ROOT = Path(__file__).parents[2]

ITERATIONS = [
    "trial", "iteration", "stage", "cell", "plan", "network", "dataset", "recipe", "strategy", "schedule",
    "criterion", "scope", "granularity", "seed", "target_sparsity", "sparsity", "compression", "kept", "prunable",
    "parameters", "macs", "accuracy_pruned", "accuracy_start", "accuracy", "top5", "best_accuracy",
    "validation_accuracy", "loss", "flag", "retrain_epochs", "search_epochs", "total_epochs", "seconds", "device",
]  # fmt: skip
EPOCHS = [
    "stage", "epoch", "step", "lr", "train_loss", "train_accuracy", "loss", "accuracy", "validation_accuracy",
    "seconds",
]  # fmt: skip


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(":memory:", config={"threads": "1"}) as made:
        schema.create(made)
        yield made


def columns(connection, table):
    rows = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE table_name = $1", [table]
    ).fetchall()
    return [row[0] for row in rows]


def test_the_promised_columns_are_there(connection):
    assert set(ITERATIONS) <= set(columns(connection, "iterations"))
    assert set(EPOCHS) <= set(columns(connection, "epochs"))


def test_everything_is_described_and_nothing_else(connection):
    tables = connection.execute(
        "SELECT table_name, comment FROM duckdb_tables() WHERE NOT internal"
    ).fetchall()
    views = connection.execute(
        "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    assert dict(tables) == docs().tables
    assert dict(views) == docs().views
    described = connection.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
    ).fetchall()
    assert all(is_text(comment) for _, _, comment in described)
    assert set(docs().columns) <= {column for _, column, _ in described}
    assert set(docs().particular) <= {f"{table}.{column}" for table, column, _ in described}


def is_text(text):
    return bool(text and text.strip() == text and "\n" not in text)


def test_no_text_stands_twice(connection):
    """What a record declares is said there, and column_docs.toml is silent about it."""
    there = {table: columns(connection, table) for table in [*docs().tables, *docs().views]}
    declared = [
        (table, column)
        for table in there
        for column in there[table]
        if docs().declared(table, column) is not None
    ]
    assert len(declared) > 90
    assert {f"{table}.{column}" for table, column in declared} & set(docs().particular) == set()
    for column in docs().columns:
        texts = [docs().column(table, column) for table in there if column in there[table]]
        assert any(docs().columns[column] in text for text in texts), f"{column} is used nowhere"
    typed = [*docs().columns.values(), *docs().particular.values()]
    made = {docs().declared(table, column) for table, column in declared}
    assert len(typed) == len(set(typed))
    assert made & set(typed) == set()


def test_every_field_that_a_column_is_named_after_is_there(connection):
    for place, (kind, name) in FIELDS.items():
        table, column = place.split(".")
        assert column in columns(connection, table)
        assert name in {field.name for field in described(kind)}
    assert set(RECORDS) | set(AS_IN) <= set(docs().tables) | set(docs().views)
    assert set(docs().means) <= {*columns(connection, "leaderboard")} & {
        *columns(connection, "points")
    }


def test_the_text_of_a_flag_says_what_is_flagged():
    """As `worker.result.flag` and `Metric.is_chance`: not that one class is predicted."""
    text = docs().column("stages", "flag")
    assert "within three standard errors of chance" in text
    assert "not finite" in text
    assert docs().column("points", "flag") == docs().column("iterations", "flag") != text


def test_a_metric_is_described_by_its_name():
    for table, names in MEASURED.items():
        for name in names:
            text = docs().column(table, name)
            metric = next(each for each in CLASSIFICATION.metrics if each.name in name)
            score = docs().column(table, name.replace(metric.name, "score"))
            assert text.startswith(docs().metrics[metric.name])
            assert f"in {metric.unit}" in text
            # Otherwise as the score that is of the same split: the rule stands in one place.
            assert score.split(", in the unit")[0].removeprefix("score") in text
    with pytest.raises(KeyError):
        measured("rmse_start")


def test_primary_keys_are_the_only_indexes(connection):
    assert connection.execute("SELECT count(*) FROM duckdb_indexes()").fetchall() == [(0,)]


def test_published_is_what_the_file_says(connection):
    packed = (files("prunectl.store.db") / "published.csv.gz").read_bytes()
    assert packed[4:8] == bytes(4), "no time stamp: the same content packs to the same bytes"
    rows = list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
    assert len(rows) == 7905
    count, first, total = connection.execute(
        "SELECT count(*), count(DISTINCT source), sum(median) FROM published"
    ).fetchall()[0]
    assert (count, first) == (7905, 3)
    assert total == pytest.approx(sum(float(row["median"]) for row in rows if row["median"]))


def test_a_newer_file_is_refused_with_both_versions(tmp_path):
    maker = FakeStore(tmp_path)
    maker.plan()
    ingest.ingest(maker.paths)
    with duckdb.connect(str(maker.paths.database)) as connection:
        connection.execute(
            f"UPDATE store SET schema_version = {schema.SCHEMA + 1}, prunectl = '9.9'"
        )
    before = maker.paths.database.read_bytes()
    for call in (lambda: ingest.ingest(maker.paths), lambda: query.run(maker.paths, "SELECT 1")):
        with pytest.raises(
            StoreError, match=rf"version {schema.SCHEMA + 1}.*9\.9.*up to {schema.SCHEMA}"
        ):
            call()
    assert maker.paths.database.read_bytes() == before


@pytest.mark.parametrize("reader", [True, False])
def test_an_older_file_is_made_anew_from_the_files(tmp_path, reader):
    maker = FakeStore(tmp_path)
    maker.plan()
    maker.finish_all()
    ingest.ingest(maker.paths)
    with duckdb.connect(str(maker.paths.database)) as connection:
        connection.execute(
            "UPDATE store SET schema_version = 0; DROP VIEW ranking; DELETE FROM epochs"
        )
    if not reader:
        assert "older version" in ingest.ingest(maker.paths).notes[0]
    assert query.run(maker.paths, "SELECT count(*) FROM epochs").rows == [(len(maker.stages) * 3,)]
    assert len(query.run(maker.paths, "SELECT * FROM ranking").rows) == 6


@pytest.mark.parametrize("version", range(1, schema.SCHEMA))
def test_a_file_of_each_older_version_is_taken_over(tmp_path, version):
    maker = FakeStore(tmp_path)
    maker.plan()
    maker.finish_all()
    made = (Path(__file__).parent / "old" / f"schema-{version}.sql").read_text(encoding="utf-8")
    with duckdb.connect(str(maker.paths.database)) as connection:
        connection.execute(made)
        connection.execute("INSERT INTO store VALUES ($1, '0.1.0', NULL)", [version])
        connection.execute("INSERT INTO plans (digest, plan) VALUES ('stale', 'stale')")
    report = ingest.ingest(maker.paths)
    assert "older version" in report.notes[0]
    assert query.run(maker.paths, "SELECT plan FROM plans").rows == [("demo",)]
    assert query.run(maker.paths, "SELECT schema_version FROM store").rows == [(schema.SCHEMA,)]


def test_the_default_store_has_the_packages_queries():
    """cp prunectl/store/db/queries/*.sql store/recipes/"""
    shipped = {name: query.sql for name, query in queries().items()}
    tracked = {
        path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("store/recipes/*.sql")
    }
    assert tracked == shipped
