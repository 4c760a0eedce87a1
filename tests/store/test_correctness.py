"""Tables of what networks have right, made of predictions and labels, and questions to them."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import numpy as np
import pytest
from msgspec.structs import replace

from prunectl.store.db import database, query, rows, schema
from prunectl.store.db.correctness import _bits
from prunectl.store.db.ingest import ingest, rebuild
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.labels import read_labels
from prunectl.store.records.result import Result
from tests.support.predicted import dense_and_pruned, made, paths, right, table
from tests.worker.conftest import Laboratory

__all__ = ["made", "paths"]


def test_bits_are_which_items_are_right(made: Laboratory, paths: StorePaths) -> None:
    found = {
        stage: [bit == "1" for bit in bits]
        for stage, bits in query.run(paths, "SELECT stage, correct::VARCHAR FROM correctness").rows
    }
    assert found == {key: right(paths, key).tolist() for key in made.plan.stages}
    accuracy = """SELECT count(*) FROM correctness JOIN stages USING (stage)
        WHERE abs(accuracy - 100 * bit_count(correct) / bit_length(correct)) > 1e-9"""
    assert query.run(paths, accuracy).rows == [(0,)]


@pytest.mark.parametrize("items", [1, 8, 90, 96])
def test_bits_keep_their_number_and_order(items: int) -> None:
    """Whole bytes go another way."""
    chosen = np.random.default_rng(items).random(items) < 0.4
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        schema.create(connection)
        database.upsert(connection, "correctness", rows.CORRECTNESS, [("s", "t", _bits(chosen))])
        sql = "SELECT bit_length(correct), [get_bit(correct, i::INTEGER) FOR i IN range($1)] FROM correctness"
        assert connection.execute(sql, [items]).fetchall() == [(items, chosen.astype(int).tolist())]


def test_columns_are_those_of_the_results(made: Laboratory, paths: StorePaths) -> None:
    for key in made.plan.stages:
        result = made.result(key)
        sql = "SELECT DISTINCT agreement, ece FROM {} WHERE stage = $1"
        for name in ("stages", "iterations", "points"):
            assert query.run(paths, sql.format(name), [key]).rows == [
                (result["agreement"], result["ece"])
            ]
    sql = "SELECT strategy, agreement, ece FROM leaderboard ORDER BY strategy"
    for strategy, agreement, ece in query.run(paths, sql).rows:
        keys = [
            made.path("fine-tune" if strategy == "dense" else strategy, seed)[strategy != "dense"]
            for seed in (0, 1)
        ]
        results = [made.result(key) for key in keys]
        assert agreement == pytest.approx(sum(each["agreement"] for each in results) / 2, abs=1e-8)
        assert ece == pytest.approx(sum(each["ece"] for each in results) / 2, abs=1e-8)


def test_rebuilding_from_the_files_gives_the_same(paths: StorePaths) -> None:
    before = table(paths)
    assert len(before["correctness"]) == 6
    rebuild(paths)
    assert table(paths) == before


def test_a_result_without_predictions_has_no_row(made: Laboratory, paths: StorePaths) -> None:
    """As of an older version; one that is made again has, or has not, what its new result says."""
    _, key = dense_and_pruned(made)
    stage = paths.stage(key)
    old = read_record(stage.result, Result)
    whole = stage.result.read_bytes()
    plain = replace(
        old, test_set="", agreement=None, agreement_with="", ece=None, lines_before=None, digests={}
    )
    write_record(stage.result, plain)
    ingest(paths)
    sql = "SELECT done, agreement, ece, correct FROM stages LEFT JOIN correctness USING (stage) WHERE stage = $1"
    assert query.run(paths, sql, [key]).rows == [(True, None, None, None)]
    stage.result.write_bytes(whole)
    ingest(paths)
    assert query.run(paths, sql, [key]).rows[0][1:3] == (old.agreement, old.ece)
    assert query.run(paths, sql, [key]).rows[0][3] is not None


def test_predictions_that_are_damaged_are_left_out_and_named(
    made: Laboratory, paths: StorePaths
) -> None:
    _, key = dense_and_pruned(made)
    file = paths.stage(key).predictions
    file.write_bytes(file.read_bytes()[:-2])
    paths.database.unlink()
    assert any("predictions.safetensors" in text for text in ingest(paths).left_out)
    assert query.run(paths, "SELECT count(*) FROM correctness").rows == [(5,)]
    assert query.run(paths, "SELECT source FROM left_out").rows == [
        (f"stages/{key}/predictions.safetensors",)
    ]


def test_labels_that_come_late_are_counted_all_the_same(paths: StorePaths) -> None:
    [path] = paths.labels.iterdir()
    before, whole = table(paths), path.read_bytes()
    path.unlink()
    ingest(paths)
    assert table(paths)["correctness"] == []
    path.write_bytes(whole)
    assert "labels came after stages" in ingest(paths).notes[0]
    assert table(paths) == before


# --- questions


def readme_query(repository: Path, title: str) -> str:
    """A query of README by the comment that it begins with."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    return next(
        each
        for each in re.findall(r"```sql\n(.*?)```", text, re.S)
        if each.startswith(f"-- {title}")
    )


def test_mcnemar_counts_what_one_has_right_and_the_other_wrong(
    made: Laboratory, paths: StorePaths, repository: Path
) -> None:
    found = query.run(paths, readme_query(repository, "McNemar")).rows
    wanted = []
    for seed in (0, 1):
        one, other = (right(paths, made.path(name, seed)[1]) for name in ("fine-tune", "lr-rewind"))
        counts = int((one & ~other).sum()), int((other & ~one).sum())
        wanted.append(("lenet-300-100", 0.5, seed, *counts))
    assert found == wanted
    assert any(row[3] != row[4] for row in wanted)


def test_the_worst_class_is_that_with_the_least_right(
    made: Laboratory, paths: StorePaths, repository: Path
) -> None:
    found = query.run(paths, readme_query(repository, "Worst class")).rows
    [path] = paths.labels.iterdir()
    labels = np.array(read_labels(path).labels)
    assert len(found) == len(made.plan.stages)
    for stage, worst, number in found:
        per_class = [100 * right(paths, stage)[labels == each].mean() for each in range(4)]
        assert worst == pytest.approx(min(per_class))
        assert per_class[number] == pytest.approx(min(per_class))
