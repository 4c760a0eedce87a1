"""A store from Python: the command line's answers, as data frames where pandas is there, and nothing left open."""

import re
import sys
import types

import duckdb
import pytest

import prunectl
from prunectl.errors import ControlError, QueryError
from prunectl.results.cells import cells
from tests.support.fake_store import FakeStore


@pytest.fixture
def maker(tmp_path):
    made = FakeStore(tmp_path)
    made.plan("demo")
    made.finish_all()
    return made


@pytest.fixture
def without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)


def test_rows_are_dictionaries_without_pandas(maker, without_pandas):
    store = prunectl.open(maker.root)
    assert store.sql("SELECT 1 AS one, 'a' AS a") == [{"one": 1, "a": "a"}]
    assert store.sql("SELECT $x AS x", {"x": 3}) == [{"x": 3}]
    assert store.rank("demo") == cells(maker.paths, "demo").dicts()
    assert len(store.iterations()) == len(store.iterations("demo")) == 24
    assert store.iterations("other") == []
    assert {row["plan"] for row in store.recipe("leaderboard", plan="demo")} == {"demo"}
    assert repr(store) == f"prunectl.open({str(maker.root)!r})"


def test_a_data_frame_with_pandas(maker, monkeypatch):
    made = []

    class DataFrame:
        @classmethod
        def from_records(cls, rows, columns):
            made.append((rows, columns))
            return cls()

    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=DataFrame))
    assert isinstance(prunectl.open(maker.root).sql("SELECT 1 AS one"), DataFrame)
    assert made == [([(1,)], ["one"])]


def test_the_file_is_let_go_of_at_once(maker, without_pandas):
    store = prunectl.open(maker.root)
    for ask in (store.rank, store.iterations, lambda: store.sql("SELECT 1")):
        ask()
        # A writer is let in only where nobody, not even this process, has the file open.
        duckdb.connect(str(maker.paths.database)).close()


def test_an_answer_has_what_no_scheduler_read_in(maker, without_pandas):
    store = prunectl.open(maker.root)
    before = store.sql("SELECT count(*) AS n FROM stages WHERE done")[0]["n"]
    key = next(iter(maker.stages))
    maker.paths.stage(key).result.unlink()
    assert store.sql("SELECT count(*) AS n FROM stages WHERE done")[0]["n"] == before - 1


def test_what_stands_in_the_way_is_a_warning(maker, without_pandas, monkeypatch):
    store = prunectl.open(maker.root)
    store.rank()
    monkeypatch.setattr(
        "prunectl.store.db.query.bring_up_to_date", lambda _: ["the answer may be behind"]
    )
    with pytest.warns(UserWarning, match="may be behind") as caught:
        assert store.sql("SELECT 1 AS one") == [{"one": 1}]
    assert caught[0].filename == __file__


def test_mistakes(maker, without_pandas):
    store = prunectl.open(str(maker.root))
    with pytest.raises(QueryError, match="LINE 1"):
        store.sql("SELECT nope FROM stages")
    with pytest.raises(QueryError, match="only read the store"):
        store.sql("DELETE FROM stages")
    with pytest.raises(ControlError, match="no plan 'x'"):
        store.rank("x")
    with pytest.raises(AttributeError, match="nope"):
        _ = prunectl.nope


def test_the_store_is_found_as_by_the_command_line(maker, monkeypatch):
    monkeypatch.setenv("PRUNECTL_STORE", str(maker.root))
    assert prunectl.open().root == maker.root


def test_the_readmes_example_runs(tmp_path, monkeypatch, repository, without_pandas):
    made = FakeStore(tmp_path / "store")
    made.plan("quickstart")
    made.finish_all()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.S)
    exec(next(block for block in blocks if "prunectl.open" in block), {})
