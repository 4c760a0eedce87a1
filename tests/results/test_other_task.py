"""A task whose score is better the lower gives the tables, marks and figures of its mirror image, a classification."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest

from prunectl.results import metrics, plots, summary
from prunectl.results.compare import compare
from prunectl.results.leaderboard import leaderboard
from prunectl.results.show import trial_facts
from prunectl.spec.task import CLASSIFICATION, DEFAULT_TASK, UNDECLARED, Metric, metrics_of
from prunectl.store.db import queries, query
from prunectl.store.db.database import opened
from prunectl.store.db.ingest import ingest
from prunectl.store.records.plan import find_trial
from tests.support.command import here
from tests.support.fake_store import FakeStore
from tests.support.other_task import REGRESSION, TASK_NAME, make_regression, mirrored
from tests.support.records import read_json, write_json

__all__ = ["here"]

STRATEGIES = ("fine-tune", "weight-rewind", "lr-rewind", "reinit")
LADDER = ("0.2", "0.36", "0.488", "0.5904", "0.67232", "0.737856")


def made(folder):
    """Four methods, four seeds; one network diverged and one is not done."""
    store = FakeStore(folder)
    store.plan("demo", strategies=STRATEGIES, sparsities=LADDER, seeds=4)
    store.finish_all_but_one()
    ingest(store.paths)
    with opened(store.paths.database, write=True, patience=5) as connection:
        # The published length, without the logs of as many epochs.
        connection.execute("UPDATE stages SET train_epochs = 182")
    return store.paths


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A store of classification, and the same with errors for scores."""
    higher, lower = (made(tmp_path_factory.mktemp(name)) for name in ("higher", "lower"))
    make_regression(lower)
    return higher, lower


@pytest.fixture(scope="module")
def lower(twins):
    return twins[1]


@pytest.fixture(scope="module")
def board(lower):
    (found,) = leaderboard(lower)
    return found


def test_what_a_task_measures_comes_out_as_it_went_in(lower):
    assert metrics.task_metrics(lower, {TASK_NAME}) == {
        DEFAULT_TASK: CLASSIFICATION,
        TASK_NAME: REGRESSION,
    }
    assert metrics_of(metrics.task_metrics(lower, {"unheard of"}), "unheard of") is UNDECLARED


def test_order_marks_and_ties_are_the_mirrors(twins, board):
    (twin,) = leaderboard(twins[0])
    assert (twin.metric, board.metric) == (CLASSIFICATION.score, REGRESSION.score)
    assert [row.label for row in board.rows] == [row.label for row in twin.rows]
    marks = set()
    for row, other in zip(board.rows, twin.rows, strict=True):
        assert row.average_rank == other.average_rank
        for sparsity, cell in row.cells.items():
            mirror = other.cells[sparsity]
            marks.add(cell.mark)
            for name in ("rank", "mark", "count", "covers_no_change"):
                assert getattr(cell, name) == getattr(mirror, name)
            assert str(cell.seeds_needed()) == str(mirror.seeds_needed())
            assert cell.mean == pytest.approx(mirrored(mirror.mean))
            assert cell.delta == pytest.approx(-mirror.delta / 100, abs=1e-8)
    assert {"★", "≈", ""} <= marks


def test_the_best_of_a_column_has_the_lowest_score(board):
    for column in board.columns:
        cells = [row.cells[column] for row in board.rows if row.cells[column].complete]
        best = min(cells, key=lambda cell: cell.mean)
        assert [cell for cell in cells if cell.best] == [best]


def test_the_summary_is_the_mirrors(twins, board):
    """A margin of 0.25 is points of accuracy, and 0.25 % of the dense networks' error."""
    (twin,) = leaderboard(twins[0])
    found, others = summary.summarise(twins[1], board), summary.summarise(twins[0], twin)
    for ours, theirs in zip(found, others, strict=True):
        assert (ours.record, ours.against) == (theirs.record, theirs.against)
    assert any(each.record.wins for each in found)
    sql = """
        SELECT l.strategy, l.compression, l.delta_bound < 0.0025 * d.mean AS good, n.compression AS reached
        FROM leaderboard l JOIN leaderboard d ON d.iteration = 0
        JOIN no_loss n ON n.strategy = l.strategy AND n.margin = 0.25
        WHERE l.iteration > 0 ORDER BY l.target_sparsity"""
    levels = {}
    for strategy, compression, good, reached in query.run(twins[1], sql).rows:
        levels.setdefault((strategy, reached), []).append((compression, good))
    for (_, reached), ladder in levels.items():
        good = [x for x, _ in itertools.takewhile(lambda level: level[1], ladder)]
        assert reached == (good[-1] if good else None)


def test_margins_are_points_of_percentages_and_else_percent_of_dense():
    def columns(metric):
        heads = summary.table([], metric).columns
        return heads[heads.index("wins–ties–losses") + 1 : -2]

    assert columns(CLASSIFICATION.score) == ("−0.25 points", "−0.5 points", "−1 points")
    error = Metric("error", "%", higher_is_better=False)
    assert columns(error) == ("+0.25 points", "+0.5 points", "+1 points")
    assert "less than x points above the own dense error" in summary.note(error)
    assert columns(REGRESSION.score) == ("+0.25 %", "+0.5 %", "+1 %")
    assert "less than x % of it above the own dense rmse" in summary.note(REGRESSION.score)


def test_texts_have_the_metrics_digits(board):
    best = next(cell for row in board.rows for cell in row.cells.values() if cell.best)
    assert best.text().startswith(f"{best.mean:.4f} ± {best.std:.4f} (4) ★")
    assert best.delta_text().lstrip("+−").startswith(f"{abs(best.delta):.4f} ± ")
    assert (
        board.table().rows[0][1]
        == board.dense.text()
        == f"{board.dense.mean:.4f} ± {board.dense.std:.4f} (4)"
    )


@pytest.mark.parametrize("kind", ["score", "accuracy"])
def test_figures_name_the_metric_and_leave_the_axis_upright(lower, board, kind):
    figure = plots.plot(lower, "demo", kind)
    (axes,) = figure.axes
    assert axes.get_ylabel() == "test rmse"
    assert not axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == [f"dense {board.dense.mean:.4f}"]
    labels = {line.get_label() for line in axes.get_lines()}
    assert set(STRATEGIES) <= labels
    assert not any("renda2020" in label or "mikler2021" in label for label in labels)


def test_a_change_is_labelled_with_what_it_is_counted_in(twins):
    labels = [plots.plot(paths, kind="delta").axes[0].get_ylabel() for paths in twins]
    assert labels == [f"change from own dense network ({what})" for what in ("points", "rmse")]


def test_nothing_published_stands_beside_another_task(twins):
    higher, lower = (compare(paths, "mikler2021") for paths in twins)
    assert higher.points
    assert lower.points == ()
    assert len(lower.unmatched) == len(STRATEGIES) * len(LADDER)
    assert {why for _, why in lower.unmatched} == {
        "regression: the publications have classification alone"
    }
    assert {ours.verdict for _, ours in lower.claims} == {"out of scope"}
    beside = [
        queries.run_query(paths, "ours-vs-published", {"source": "mikler2021"}).rows
        for paths in twins
    ]
    assert len(beside[0]) == len(higher.points)
    assert beside[1] == []


def test_the_cost_to_reach_follows_the_direction(twins):
    """Half a point of accuracy is half a hundredth of the mirror's score."""
    found = [
        [
            (row["strategy"], row["compression"], row["search_epochs"])
            for row in queries.run_query(paths, "cost-to-reach", {"loss": loss}).dicts()
        ]
        for paths, loss in zip(twins, ("0.5", "0.005"), strict=True)
    ]
    assert found[0] == found[1]
    assert found[0]


def test_tasks_of_one_plan_are_boards_apart(tmp_path):
    paths = made(tmp_path)
    make_regression(paths, "strategy IN ('reinit', 'fine-tune')")
    found = {board.task: {row.label for row in board.rows} for board in leaderboard(paths)}
    assert found == {
        TASK_NAME: {"reinit", "fine-tune"},
        DEFAULT_TASK: {"lr-rewind", "weight-rewind"},
    }
    sql = "SELECT task, count(*) FILTER (best) FROM ranking GROUP BY ALL ORDER BY ALL"
    columns = len(LADDER)
    assert query.run(paths, sql).rows == [(DEFAULT_TASK, columns), (TASK_NAME, columns)]


def test_rank_says_what_its_numbers_are(lower, here):
    rows = json.loads(here("rank", "--format", "json", "--store", lower.root).stdout)
    described = {(r["task"], r["metric"], r["unit"], r["higher_is_better"]) for r in rows}
    assert described == {(TASK_NAME, "rmse", "", False)}
    rows = json.loads(here("rank", "--summary", "--format", "json", "--store", lower.root).stdout)
    described = {(r["task"], r["metric"], r["unit"], r["higher_is_better"]) for r in rows}
    assert described == {(TASK_NAME, "rmse", "", False)}
    text = here("rank", "--store", lower.root).stdout
    assert "rmse (lower is better) of the last epoch, mean ± std (n)" in " ".join(text.split())
    text = " ".join(here("rank", "--delta", "--store", lower.root).stdout.split())
    assert "change of rmse (lower is better) from the own dense network" in text
    assert "accuracy" not in text
    text = " ".join(here("rank", "--summary", "--store", lower.root).stdout.split())
    assert "less than x % of it above the own dense rmse" in text


def test_a_trials_own_record_says_what_it_measures(tmp_path):
    """Where there is no database to ask: `show --trial` and the metadata of an exported network."""
    store = FakeStore(tmp_path)
    digest = store.plan("demo", seeds=1)
    record = read_json(store.paths.plan(digest))
    assert (
        metrics.trial_metrics(find_trial(store.paths, next(iter(store.trials)))) is CLASSIFICATION
    )
    for each in record["trials"]:
        each["task"] = TASK_NAME
    write_json(
        store.paths.plan(digest), record | {"tasks": msgspec.to_builtins({TASK_NAME: REGRESSION})}
    )
    trial = next(iter(store.trials))
    assert metrics.trial_metrics(find_trial(store.paths, trial)) == REGRESSION
    assert trial_facts(store.paths, trial).metric == REGRESSION.score
