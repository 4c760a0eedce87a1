"""The database is an index: whatever is done to its file, questions are answered as before, and `rebuild` works."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.store.db import query, schema
from prunectl.store.db.column_docs import docs
from prunectl.store.db.ingest import ingest, rebuild
from prunectl.store.paths import StorePaths
from prunectl.store.records.scheduler_log import RunStarted
from prunectl.store.verify import verify
from tests.full import full
from tests.support.fake_store import FakeStore

OWN = ("store", "published")
"""Tables that do not come from the store's files."""


pytestmark = pytest.mark.usefixtures("bare_tables")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> StorePaths:
    """A store with results."""
    made = FakeStore(tmp_path_factory.mktemp("store") / "store")
    made.run(digests=(made.plan(),))
    made.scheduler(RunStarted(run="r1"))
    made.finish_all()
    ingest(made.paths)
    return made.paths


@pytest.fixture(scope="module")
def good(paths: StorePaths) -> bytes:
    """The database as it should be."""
    return paths.database.read_bytes()


@pytest.fixture(scope="module")
def expected(paths: StorePaths, good: bytes) -> dict[str, str]:
    """What is answered from it."""
    return answers(paths)


def answers(paths: StorePaths) -> dict[str, str]:
    """The content of every table and view, asked as commands ask."""
    return {
        name: json.dumps(query.run(paths, f"SELECT * FROM {name} ORDER BY ALL").rows, default=str)
        for name in [*docs().tables, *docs().views]
        if name not in OWN
    }


def clear(paths: StorePaths) -> None:
    for path in paths.root.glob("results.duckdb*"):
        path.rmdir() if path.is_dir() else path.unlink()


@given(
    at=st.floats(0, 1, exclude_max=True),
    kind=st.sampled_from(["cut", "flipped bit", "zeros", "other bytes", "more bytes", "no log"]),
    first=st.sampled_from(["ask", "ingest", "rebuild", "verify"]),
)
@settings(max_examples=1000 if full() else 8, deadline=None)
def test_whatever_is_done_to_the_file_the_answer_is_the_same(
    paths: StorePaths, good: bytes, expected: dict[str, str], at: float, kind: str, first: str
) -> None:
    clear(paths)
    data, place = bytearray(good), int(at * len(good))
    if kind == "cut":
        del data[place:]
    elif kind == "flipped bit":
        data[place] ^= 1 << place % 8
    elif kind == "zeros":
        data[place : place + 4096] = bytes(len(data[place : place + 4096]))
    elif kind == "other bytes":
        data[place : place + 64] = random.Random(place).randbytes(len(data[place : place + 64]))
    elif kind == "more bytes":
        data += bytes(range(100))
    else:
        paths.database.with_name("results.duckdb.wal").write_bytes(bytes(range(200)))
    paths.database.write_bytes(bytes(data))
    {"ask": answers, "ingest": ingest, "rebuild": rebuild, "verify": verify}[first](paths)
    assert answers(paths) == expected


@pytest.mark.parametrize("where", ["header", "blocks"])
def test_verify_names_it_before_anything_mends_it(
    paths: StorePaths, good: bytes, where: str
) -> None:
    clear(paths)
    data = bytearray(good)
    if where == "header":
        data[:4096] = bytes(4096)
    else:
        for place in range(12_388, len(data), 4096):
            data[place] ^= 255
    paths.database.write_bytes(data)
    assert any("results.duckdb is damaged" in problem for problem in verify(paths).problems)


def test_what_stands_in_its_place_is_set_aside(
    paths: StorePaths, good: bytes, expected: dict[str, str]
) -> None:
    for make in (Path.mkdir, os.mkfifo):
        clear(paths)
        make(paths.database)
        assert answers(paths) == expected
        assert paths.database.is_file()


def sqlite_file(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE stages (x)")


def another_programs(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE store (x INTEGER); CREATE VIEW stages AS SELECT 1 AS x")


def of_an_older_duckdb(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS old (STORAGE_VERSION 'v0.10.2')")
        connection.execute("CREATE TABLE old.stages (x INTEGER)")


def half_made(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(schema._text("schema.sql"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("no database\n" * 1000)


def parquet(path: Path) -> None:
    duckdb.sql("SELECT 1 AS x").write_parquet(str(path))


def without_a_table(path: Path) -> None:
    ingest(StorePaths(path.parent))
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE trials RENAME TO mine")


MAKERS = [
    sqlite_file, another_programs, of_an_older_duckdb, half_made, empty, text, parquet, without_a_table,
]  # fmt: skip
FIRSTS = ["ask", "ingest", "rebuild", "verify"]


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (make, first)
        for number, make in enumerate(MAKERS)
        for first in (FIRSTS if full() else [FIRSTS[number % 4]])
    ],
)
def test_what_another_program_made_is_replaced(
    paths: StorePaths,
    expected: dict[str, str],
    make: Callable[[Path], None],
    first: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clear(paths)
    make(paths.database)
    told: list[str] = []
    monkeypatch.setattr(query, "tell", told.append)
    {"ask": answers, "ingest": ingest, "rebuild": rebuild, "verify": verify}[first](paths)
    assert answers(paths) == expected
    assert all("\n" not in line for line in told)


def test_a_table_that_is_missed_on_writing_has_all_made_anew(
    paths: StorePaths, expected: dict[str, str]
) -> None:
    clear(paths)
    ingest(paths)
    with duckdb.connect(str(paths.database)) as connection:
        connection.execute("ALTER TABLE ingested RENAME TO mine")
    report = ingest(paths)
    assert "lacks what it was made with" in report.notes[0]
    assert "\n" not in report.notes[0]
    assert answers(paths) == expected


def test_a_question_says_that_it_found_it_damaged(
    paths: StorePaths, good: bytes, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(paths)
    paths.database.write_bytes(good[:4096])
    told: list[str] = []
    monkeypatch.setattr(query, "tell", told.append)
    assert answers(paths) == expected
    assert len(told) == 1
    assert "damaged" in told[0]
    assert "made anew from the files" in told[0]


def test_verify_reads_all_of_it(paths: StorePaths, good: bytes) -> None:
    """Damage that bringing the database up to date does not meet is a problem all the same, told once."""

    def problems() -> list[str]:
        return [each for each in verify(paths).problems if "results.duckdb" in each]

    found: list[str] = []
    for block in range(3 * 4096, len(good), 256 << 10):  # after the three headers
        clear(paths)
        place = max(n for n in range(block, block + 4096) if n == block or good[n])
        data = bytearray(good)
        data[place] ^= 255
        paths.database.write_bytes(bytes(data))
        if not ingest(paths).notes:
            found = problems()
        if found:
            break
    assert len(found) == 1
    assert "damaged" in found[0]
    assert not problems()
