"""Before the first result: a store that nothing has been run in answers with empty tables, and stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prunectl.errors import QueryError, StoreError
from prunectl.store.db import queries, query, schema
from prunectl.store.paths import StorePaths
from tests.support.command import Done, here

__all__ = ["here"]


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.fixture
def _bare_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without comments and published results, which take most of the time of making tables."""
    monkeypatch.setattr(schema, "_comment", lambda connection: None)
    monkeypatch.setattr(schema, "SHIPPED", ("t_quantiles",))


@pytest.mark.usefixtures("_bare_tables")
@pytest.mark.parametrize("name", queries.queries())
def test_every_query_with_a_name_answers_with_its_empty_table(tmp_path: Path, name: str) -> None:
    parameters = queries.queries()[name].parameters
    given = {key: "x" for key, value in parameters.items() if value is None}
    found = queries.run_query(StorePaths(tmp_path), name, given)
    assert found.rows == []
    assert found.columns


@pytest.mark.usefixtures("_bare_tables")
@pytest.mark.parametrize("there", [["plans", "stages"], ["control"], ["runs", "scheduler.jsonl"]])
def test_a_store_that_has_only_begun_does_so_too(tmp_path: Path, there: list[str]) -> None:
    for folder in there:
        (tmp_path / folder).mkdir()
    assert query.run(StorePaths(tmp_path), "SELECT * FROM trials").rows == []


def test_nothing_is_written_and_nothing_can_be(tmp_path: Path) -> None:
    paths = StorePaths(tmp_path)
    assert query.run(paths, "SELECT count(*) FROM stages").rows == [(0,)]
    assert query.run(paths, "SELECT count(*) > 0 FROM published").rows == [(True,)]
    for sql, doing in [
        ("DELETE FROM published", "writes"),
        ("SELECT * FROM read_csv('/etc/passwd')", "reads or writes files"),
        ("SET threads = 4", "changes settings"),
    ]:
        with pytest.raises(QueryError, match=f"this statement .*{doing}.* only read the store"):
            query.run(paths, sql)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "words", [("sql", "SELECT * FROM stages"), ("sql", "-q", "leaderboard"), ("rank",)]
)
def test_the_commands_end_well(
    here: Callable[..., Done], tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = here(*words, "--store", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 rows" in done.stderr or "No results yet" in done.stdout
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [
        ("sql", "SELECT 1"), ("sql", "-q", "leaderboard"), ("rank",), ("status",), ("compare", "demo"),
        ("export", "--study", "demo", "--out", "out"), ("store", "verify"), ("store", "rebuild"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("there", [True, False])
def test_a_place_that_is_no_store_is_named_and_left_as_it_is(
    here: Callable[..., Done], tmp_path: Path, words: tuple[str, ...], there: bool
) -> None:
    place = tmp_path / "elsewhere"
    if there:
        place.mkdir()
        (place / "holiday.txt").write_text("")
    before = files(tmp_path)
    done = here(*words, "--store", place, cwd=tmp_path)
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert f"{place} holds no" in line
    assert files(tmp_path) == before


def test_a_file_in_the_place_of_a_store_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="holds no results"):
        query.run(StorePaths(tmp_path / "file"), "SELECT 1")
