"""Costs are whole, and methods are compared at equal ones."""

import statistics

import pytest

from prunectl.results.statistics import paired
from prunectl.results.ties import paired_difference
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest
from prunectl.store.db.queries import run_query
from tests.support.fake_store import EFFECT, FakeStore
from tests.support.records import read_json, write_json

LADDER = ("0.5", "0.75", "0.875")
DENSE, EPOCHS = 7.0, 3.0
SIDES = ("one_shot", "iterative")


def filled(folder, schedule, **more):
    made = FakeStore(folder)
    made.plan("demo", schedule=schedule, sparsities=LADDER, seeds=4, **more)
    for key in made.stages:
        dense = "mask" not in made.stages[key]["spec"]["stage"]
        made.finish(key, retrain_epochs=DENSE if dense else EPOCHS)
    return made


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    made = filled(tmp_path_factory.mktemp("store"), ("one-shot", "iterative 0.5"))
    ingest(made.paths)
    return made.paths


def scores(paths):
    """By strategy, schedule, target sparsity and seed."""
    sql = "SELECT strategy, schedule, target_sparsity, seed, score FROM points WHERE iteration > 0"
    out = {}
    for *names, seed, score in query.run(paths, sql).rows:
        out.setdefault(tuple(names), {})[seed] = score
    return out


@pytest.mark.parametrize("view", ["iterations", "points", "leaderboard"])
def test_the_total_is_the_search_and_the_dense_network(paths, view):
    rows = query.run(
        paths, f"SELECT iteration, search_epochs, total_epochs, schedule FROM {view}"
    ).rows
    assert rows
    for iteration, search, total, _ in rows:
        assert (search, total) == (EPOCHS * iteration, DENSE + EPOCHS * iteration)
    assert {iteration for iteration, _, _, schedule in rows if schedule == "one-shot"} <= {0, 1}


def test_the_total_is_of_what_is_done(tmp_path):
    made = filled(tmp_path, "iterative 0.5", strategies=("lr-rewind",))
    keys = list(made.stages)  # of each seed: the dense network, then a stage for each level
    made.paths.stage(keys[3]).result.unlink()
    made.paths.stage(keys[4]).result.unlink()
    ingest(made.paths)
    sql = "SELECT seed, iteration, search_epochs, total_epochs FROM {} WHERE iteration = 3 OR seed = 1"
    points = {row[:2]: row[2:] for row in query.run(made.paths, sql.format("points")).rows}
    done = {row[:2]: row[2:] for row in query.run(made.paths, sql.format("iterations")).rows}
    assert points[0, 3] == (None, None), "not done"
    assert (0, 3) not in done
    assert points[1, 1] == done[1, 1] == (EPOCHS, None), "the dense network is not done"
    assert points[2, 3] == done[2, 3] == (9.0, 16.0)
    sql = "SELECT n, total_epochs FROM leaderboard WHERE iteration = 3"
    assert query.run(made.paths, sql).rows == [(3, 16.0)]


def test_equal_cost_is_the_paired_difference_within_each_budget(paths):
    rows = run_query(paths, "equal-cost").dicts()
    points = scores(paths)
    found = {(row["strategy"], row["target_sparsity"], row["budget"]): row for row in rows}
    budgets = {0.5: [10.0], 0.75: [10.0, 13.0], 0.875: [10.0, 16.0]}
    assert sorted(found) == [
        (strategy, sparsity, budget)
        for strategy in ("fine-tune", "lr-rewind")
        for sparsity, own in budgets.items()
        for budget in own
    ]
    for (strategy, sparsity, budget), row in found.items():
        one, step = (points[strategy, s, sparsity] for s in ("one-shot", "iterative 0.5"))
        expected = paired(list(one.values()))
        assert row["one_shot_epochs"] == DENSE + EPOCHS
        assert row["one_shot"] == pytest.approx(expected.mean)
        assert row["one_shot_ci"] == pytest.approx(expected.half)
        if budget < DENSE + EPOCHS * (1 + [0.5, 0.75, 0.875].index(sparsity)):
            assert (row["better"], row["iterative"]) == ("only one-shot", None)
            continue
        gap = paired_difference(step, one)
        assert row["iterative"] == pytest.approx(statistics.fmean(step.values()))
        assert row["difference"] == pytest.approx(gap.mean)
        assert row["difference_ci"] == pytest.approx(gap.half)
        assert row["pairs"] == 4
        apart = abs(gap.mean) > gap.half
        assert row["better"] == (
            "not told apart" if not apart else "iterative" if gap.mean > 0 else "one-shot"
        )


def test_the_longer_training_is_taken_not_the_better_one(tmp_path):
    """Nothing is chosen on the test set: of two lengths within the budget, the longer one counts, better or not."""
    made = FakeStore(tmp_path)
    digest = made.plan(
        strategies=("lr-rewind", "reinit"),
        schedule=("one-shot", "iterative 0.5"),
        sparsities=LADDER,
    )
    short = {key for key, stage in made.stages.items() if stage["labels"]["strategy"] == "reinit"}
    for key in made.stages:
        made.finish(
            key, retrain_epochs=1.0 if key in short else 3.0, accuracy=90.0 + (key in short)
        )
    path = made.paths.plan(digest)
    record = read_json(path)
    for trial in record["trials"]:
        if trial["strategy"] == "reinit":
            trial |= {"strategy": "lr-rewind", "retrain": "1ep"}
    write_json(path, record)
    ingest(made.paths)
    found = {
        row["budget"]: [row[f"{side}{what}"] for side in SIDES for what in ("_epochs", "")]
        for row in run_query(made.paths, "equal-cost").dicts()
        if row["target_sparsity"] == 0.75
    }
    assert found == {
        4.0: [4.0, 91.0, None, None],
        5.0: [4.0, 91.0, 5.0, 91.0],
        6.0: [6.0, 90.0, 5.0, 91.0],
        9.0: [6.0, 90.0, 9.0, 90.0],
    }


def test_what_is_only_one_shot_or_only_iterative_has_nothing_to_compare(tmp_path):
    made = filled(tmp_path, "iterative 0.5")
    ingest(made.paths)
    assert run_query(made.paths, "equal-cost").rows == []


def test_scores_at_equal_macs_have_their_intervals(paths):
    rows = run_query(paths, "accuracy-vs-macs").dicts()
    points = scores(paths)
    for row in rows:
        assert row["theoretical_speedup"] == pytest.approx(row["compression"], rel=1e-3)
        if row["strategy"] in EFFECT:
            own = points[row["strategy"], row["schedule"], row["target_sparsity"]]
            assert row["ci"] == pytest.approx(paired(list(own.values())).half)
    assert [row["macs"] for row in rows] == sorted((row["macs"] for row in rows), reverse=True)
