"""What is chosen by validation, against a choice in plain Python, and where it is shown."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.errors import StoreError
from prunectl.results import selections
from prunectl.results.compare import compare
from prunectl.results.export import export_tables
from prunectl.results.leaderboard import leaderboard
from prunectl.results.plan_claims import AFTERWARDS, plan_claims
from prunectl.results.samples import at_main_length, measured
from prunectl.results.statistics import paired
from prunectl.spec.claim import Claim
from prunectl.spec.selection import SelectedCell, Selection
from prunectl.store.db import query
from prunectl.store.db.database import opened
from prunectl.store.db.ingest import ingest, rebuild
from prunectl.store.records.plan import read_plan
from tests.support.command import here
from tests.support.fake_store import FakeStore
from tests.support.records import read_json, write_json

__all__ = ["here"]

OPTIONS = ("hot", "fine-tune", "cold")
NAME = "tuned@abcdef"
CELL = "5e1ec7ed" * 2


def made_store(folder, seeds=3, more=()):
    """Three options and another method, one-by-one; the options are chosen among by validation."""
    made = FakeStore(folder)
    digest = made.plan("demo", strategies=(*OPTIONS, "lr-rewind"), seeds=seeds)
    path = made.paths.plan(digest)
    record = read_json(path)
    cells = {trial["strategy"]: trial["cell"] for trial in record["trials"]}
    chosen = Selection(
        NAME,
        "lr_window",
        "validation",
        (SelectedCell(CELL, tuple(cells[name] for name in OPTIONS)),),
    )
    write_json(path, record | {"selections": msgspec.to_builtins([chosen])} | dict(more))
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = made_store(tmp_path_factory.mktemp("store"), seeds=4)
    draw = random.Random(0)
    for key in made.stages:
        made.finish(key, validation_accuracy=round(draw.gauss(90, 1), 1))
    ingest(made.paths)
    return made


COSTS = ("retrain_epochs", "search_epochs")
OWN = ("cell", "strategy", "selected", "picked", "total_epochs", *COSTS)
"""Columns in which a chosen row is not the picked trial's."""


def check_picks(paths, sign):
    """Every chosen row, by the rows of the trials alone."""
    rows = query.run(paths, "SELECT * FROM points WHERE iteration > 0").dicts()
    by = {(row["strategy"], row["iteration"], row["seed"]): row for row in rows}
    found = [row for row in rows if row["selected"]]
    assert len(found) == 3 * 4
    flattery, counts = {}, {}
    for row in found:
        at = (row["iteration"], row["seed"])
        options = [by[name, *at] for name in OPTIONS]
        known = [each for each in options if each["validation_score"] is not None]
        if not all(each["done"] for each in options) or not known:
            assert [row[name] for name in ("score", "trial", "stage", "picked", *COSTS)] == [
                None
            ] * 6
            assert not row["done"]
            continue
        best = max(sign * each["validation_score"] for each in known)
        picked = next(each for each in known if sign * each["validation_score"] == best)
        assert {k: v for k, v in row.items() if k not in OWN} == {
            k: v for k, v in picked.items() if k not in OWN
        }
        assert row["picked"] == picked["strategy"]
        for name in COSTS:
            assert row[name] == pytest.approx(sum(each[name] for each in options))
        if picked["total_epochs"] is None:  # as where the dense network is not done
            assert row["total_epochs"] is None
        else:
            dense = picked["total_epochs"] - picked["search_epochs"]
            assert row["total_epochs"] == pytest.approx(row["search_epochs"] + dense)
        tests = [sign * each["score"] for each in options if each["score"] is not None]
        counts.setdefault(row["iteration"], []).append(row["picked"])
        if row["score"] is not None:
            flattery.setdefault(row["iteration"], []).append(max(tests) - sign * row["score"])
    return flattery, counts


def check_flattery(paths, flattery, counts, resolution):
    rows = query.run(paths, "SELECT * FROM selections").dicts()
    assert [row["iteration"] for row in sorted(rows, key=lambda row: row["iteration"])] == [1, 2, 3]
    for row in rows:
        values = flattery.get(row["iteration"], [])
        assert (row["n"], row["planned"], row["options"]) == (len(values), 4, 3)
        picks = json.loads(row["picks"] or "{}")
        expected = counts.get(row["iteration"], [])
        assert picks == {name: expected.count(name) for name in expected}
        if not values:
            assert row["flattery"] is None
            continue
        assert min(values) >= 0
        assert row["flattery"] == pytest.approx(statistics.fmean(values), abs=1e-8)
        assert row["mean"] is not None
        assert abs(row["mean_by_test"] - row["mean"]) == pytest.approx(row["flattery"], abs=1e-7)
        found = paired(values, resolution)
        half = found.upper(0.025) - found.mean if found.df else None
        assert row["flattery_ci"] == (None if half is None else pytest.approx(half, abs=1e-6))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_what_is_chosen_is_what_plain_python_chooses(store, seed, higher):
    """Scores drawn at random, with ties, some of them missing, NULL or failed, straight into the tables."""
    draw = random.Random(seed)
    columns = ["stage", "done", "score", "validation_score", "flag", "test_items", "train_epochs"]
    items = draw.choice([None, 400])
    lost = draw.choice([0.0, 0.1, 0.4])
    with opened(store.paths.database, write=True, patience=5) as connection:
        before = connection.execute(f"SELECT {', '.join(columns)} FROM stages").fetchall()
        with connection.appender("stages", columns=columns, action="upsert") as appender:
            for row in before:
                done, flag = draw.random() >= lost, "diverged" if draw.random() < 0.1 else None
                score, validation = (
                    round(draw.gauss(90, 1), 1) if done and draw.random() >= lost / 2 else None
                    for _ in range(2)
                )
                epochs = float(draw.randint(1, 9)) if done else None
                appender.append_row(row[0], done, score, validation, flag, items, epochs)
        connection.execute(f"UPDATE tasks SET higher_is_better = {higher} WHERE position = 0")
    try:
        sign = 1 if higher else -1
        check_flattery(store.paths, *check_picks(store.paths, sign), 100 / items if items else 0.0)
    finally:
        with opened(store.paths.database, write=True, patience=5) as connection:
            connection.execute("UPDATE tasks SET higher_is_better = true WHERE position = 0")
            with connection.appender("stages", columns=columns, action="upsert") as appender:
                appender.append_rows(before)


VIEWS = ("points_all", "leaderboard_all", "iterations_all", "no_loss_all", "plan_versions")


def test_other_rows_are_what_they_are_without_a_selection(store, tmp_path):
    """Those of `ranking` alone see one contender more."""
    without = FakeStore(tmp_path)
    without.plan("demo", strategies=(*OPTIONS, "lr-rewind"), seeds=4)
    draw = random.Random(0)
    for key in without.stages:
        without.finish(key, validation_accuracy=round(draw.gauss(90, 1), 1))
    ingest(without.paths)
    for view in VIEWS:
        sql = f"SELECT * FROM {view} ORDER BY ALL"
        mine = [row for row in query.run(store.paths, sql).rows if NAME not in row]
        assert mine == query.run(without.paths, sql).rows
    for view in ("picks_all", "selections_all", "plan_selections"):
        assert query.run(without.paths, f"FROM {view}").rows == []


def test_it_is_a_method_but_no_progress(store):
    [board] = leaderboard(store.paths)
    row = next(row for row in board.rows if row.selected)
    assert row.label == NAME
    assert (board.n, board.planned) == (4 * 3 * 4, 4 * 3 * 4)
    assert [row.label for row in selections.selected_rows(board)] == [NAME]
    assert all(cell.values["entry"] == CELL for cell in row.cells.values())
    assert [cell.values["search_epochs"] for cell in row.cells.values()] == [9.0, 18.0, 27.0]
    missing = query.run(store.paths, "SELECT * FROM iterations WHERE cell = $1", [CELL])
    assert missing.rows == []


def test_one_that_always_picks_the_same_keeps_its_own_row(tmp_path):
    made = made_store(tmp_path)
    for key, stage in made.stages.items():
        made.finish(key, validation_accuracy=99.0 if stage["labels"]["strategy"] == "hot" else 1.0)
    ingest(made.paths)
    [board] = leaderboard(made.paths)
    rows = {row.label: row for row in board.rows}
    assert {"hot", NAME} <= set(rows)
    for sparsity, cell in rows[NAME].cells.items():
        other = rows["hot"].cells[sparsity]
        assert (cell.mean, cell.rank) == (other.mean, other.rank)
        assert cell.values["search_epochs"] == 3 * other.values["search_epochs"]
        assert selections.picks_text(cell) == "hot 3"


def test_nothing_is_chosen_before_all_options_are_done(tmp_path):
    made = made_store(tmp_path)
    late = [key for key, stage in made.stages.items() if stage["labels"]["strategy"] == "cold"]
    for key in made.stages:
        if key not in late:
            made.finish(key, validation_accuracy=90.0)
    ingest(made.paths)
    [board] = leaderboard(made.paths)
    row = next(row for row in board.rows if row.selected)
    assert [cell.text() for cell in row.cells.values()] == ["– (0/3)"] * 3
    assert selections.line(row.cells[0.2]) == "picked among 3: –"
    made.finish(late[0], validation_accuracy=90.0)
    ingest(made.paths)
    [row] = selections.selected_rows(*leaderboard(made.paths))
    # The first stage of one seed: of equal scores the first in the order of the grid is taken.
    assert [cell.count for cell in row.cells.values()] == ["1/3", "0/3", "0/3"]
    assert selections.picks_text(row.cells[0.2]) == "hot 1"
    missing = query.run(
        made.paths, "SELECT strategy FROM points WHERE score IS NULL AND NOT selected"
    )
    assert {name for (name,) in missing.rows} == {"cold"}


def test_it_is_beside_no_published_number(store):
    found = compare(store.paths)
    reasons = {sample.strategy: why for sample, why in found.unmatched}
    assert "chosen by validation" in reasons[NAME]
    assert NAME not in {point.ours.strategy for point in found.points}


def test_a_claim_of_it_is_judged_and_is_stated_after_its_first_option(tmp_path):
    """The first option is done before the claim is made, the picked ones after."""
    claim = Claim("tuned", "lr-rewind", "better")
    more = {"claims": msgspec.to_builtins([claim]), "made": 2000.0}
    made = made_store(tmp_path, more=more.items())
    score = {"dense": 92.0, "hot": 91.0, "fine-tune": 60.0, "cold": 50.0, "lr-rewind": 80.0}
    for key, stage in made.stages.items():
        name = stage["labels"]["strategy"]
        noise = 0.1 * stage["spec"]["stage"]["seed"]
        ended = 1000.0 if name == "cold" else 3000.0
        made.finish(key, accuracy=score[name] + noise, validation_accuracy=score[name], ended=ended)
    ingest(made.paths)
    [found] = plan_claims(made.paths)
    assert (found.judged.verdict, found.judged.note) == ("supported", AFTERWARDS)
    [part] = found.judged.parts
    assert part.first_result == 1000.0
    sample = next(sample for sample in measured(made.paths) if sample.selected)
    assert sample.retrain_epochs == 9.0


def test_it_is_exported_and_made_anew(store, tmp_path):
    written = {path.name for path in export_tables(store.paths, "demo", tmp_path)}
    assert {"selections.csv", "selections.parquet"} <= written
    sql = "FROM plan_selections ORDER BY ALL"
    before = query.run(store.paths, sql).rows
    assert len(before) == 3 * 4
    rebuild(store.paths)
    assert query.run(store.paths, sql).rows == before


def test_the_command_shows_it(store, here):
    text = here("rank", "--store", store.root).stdout
    assert f"{NAME}: among 3" in text
    assert selections.NOTE in text
    rows = json.loads(here("rank", "--format", "json", "--store", store.root).stdout)
    chosen = [row for row in rows if row["selected"]]
    assert [row["strategy"] for row in chosen] == [NAME] * 3
    assert all(row["flattery"] >= 0 and json.loads(row["picks"]) for row in chosen)
    assert all(row["flattery"] is None for row in rows if not row["selected"])
    for name in ("seeds-missing", "time-per-strategy"):
        assert NAME not in here("sql", "-q", name, "--store", store.root).stdout


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.update(options=[]),
        lambda made: made.update(options=made["options"][:1]),
        lambda made: made.update(options=["f" * 16, *made["options"]]),
        lambda made: made.update(options=["e" * 16, "f" * 16]),
        lambda made: made.update(options=[*made["options"], made["options"][0]]),
        lambda made: made.update(cell=made["options"][0]),
    ],
)
def test_a_record_that_chooses_among_what_is_not_there_is_none(tmp_path, change):
    made = made_store(tmp_path)
    [path] = made.paths.plans.glob("*.json")
    record = read_json(path)
    change(record["selections"][0]["cells"][0])
    write_json(path, record)
    with pytest.raises(StoreError, match="tuned@abcdef cannot have cell"):
        read_plan(path)


def test_the_length_of_a_sweep_is_no_length_of_retraining(store):
    """Weight rewinding's main length is the longest of at most 0.9 of all retraining; sweeps are sums."""
    one = next(each for each in measured(store.paths) if not each.selected)
    rows = [
        ("weight-rewind", 5.0),
        ("weight-rewind", 9.0),
        ("weight-rewind", 10.0),
        ("lr-rewind", 10.0),
    ]
    plain = [replace(one, strategy=name, retrain_epochs=length) for name, length in rows]
    swept = replace(one, strategy=NAME, retrain_epochs=50.0, selected=True)
    main = {each.strategy: each.retrain_epochs for each in at_main_length([*plain, swept])}
    assert main == {"weight-rewind": 9.0, "lr-rewind": 10.0, NAME: 50.0}
