"""The summary of a board agrees with the board, the views and the statistics."""

import json

import pytest

from prunectl.results import summary
from prunectl.results.formats import render
from prunectl.results.leaderboard import leaderboard
from prunectl.results.no_loss import without_loss
from prunectl.results.statistics import paired
from prunectl.results.ties import Record, paired_difference
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest
from tests.support.fake_store import FakeStore

LADDER = ("0.2", "0.36", "0.488", "0.5904", "0.67232", "0.737856")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    made = FakeStore(tmp_path_factory.mktemp("store"))
    made.plan("demo", strategies=("fine-tune", "lr-rewind", "reinit"), sparsities=LADDER, seeds=5)
    made.finish_all()
    ingest(made.paths)
    return made.paths


@pytest.fixture(scope="module")
def found(paths):
    (board,) = leaderboard(paths, "demo")
    return board, {each.row.label: each for each in summary.summarise(paths, board)}


def test_order_rank_and_cost_are_the_boards(found):
    board, summaries = found
    assert list(summaries) == [row.label for row in board.rows]
    for row in board.rows:
        assert summaries[row.label].row is row
        assert summaries[row.label].search_epochs == 3.0 * len(LADDER)
        assert summaries[row.label].total_epochs == 3.0 * (1 + len(LADDER))
        assert (row.n, row.planned) == (30, 30)


def test_compression_without_loss_stops_at_the_first_level_that_fails(paths, found):
    """As the rule of the publications' claims, by SciPy's bounds over the seeds."""
    _, summaries = found
    levels = {}
    sql = """
        SELECT strategy, 1 / (1 - sum(1 - kept / prunable) / count(*)), list(delta) FROM points
        WHERE iteration > 0 GROUP BY strategy, target_sparsity"""
    for strategy, compression, deltas in query.run(paths, sql).rows:
        levels.setdefault(strategy, []).append((compression, paired(deltas)))
    reached = set()
    for label, each in summaries.items():
        assert set(each.compressions) == {0.25, 0.5, 1.0}
        for margin, compression in each.compressions.items():
            expected = without_loss(levels[label], margin)
            assert compression == (expected and pytest.approx(expected))
            reached.add(compression)
    assert len(reached) > 2


def test_a_level_beyond_one_that_failed_does_not_count(tmp_path):
    made = FakeStore(tmp_path)
    made.plan("demo", strategies=("lr-rewind",), sparsities=LADDER, seeds=3)
    for key in made.stages:
        stage = made.stages[key]["spec"]["stage"]
        loss = 5.0 if stage.get("iteration") == 3 else 0.0
        made.finish(key, accuracy=90.0 + 0.01 * stage["seed"] - loss)
    ingest(made.paths)
    (board,) = leaderboard(made.paths)
    [each] = summary.summarise(made.paths, board)
    assert {round(x, 2) for x in each.compressions.values()} == {1.56}
    assert round(each.largest, 2) == 3.81


def test_wins_and_losses_are_each_others(found):
    _, summaries = found
    for label, each in summaries.items():
        for other, record in each.against.items():
            back = summaries[other].against[label]
            assert (record.wins, record.ties, record.losses) == (back.losses, back.ties, back.wins)
            assert record.wins + record.ties + record.losses == len(LADDER)
        total = sum(record.wins for record in each.against.values())
        assert each.record.wins == total
    assert summaries["lr-rewind"].record.wins > summaries["reinit"].record.wins


def test_a_duel_is_decided_as_ties_are(paths, found):
    rows = query.run(
        paths,
        "SELECT strategy, target_sparsity, seed, score FROM points WHERE iteration > 0",
    ).rows
    columns = {}
    for strategy, sparsity, seed, score in rows:
        columns.setdefault(strategy, {}).setdefault(sparsity, {})[seed] = score
    a, b = columns["lr-rewind"], columns["fine-tune"]
    gaps = [paired_difference(a[s], b[s]) for s in a]
    ties = sum(abs(gap.mean) <= gap.half for gap in gaps)
    assert found[1]["lr-rewind"].against["fine-tune"].ties == ties


def test_formats(found):
    board, summaries = found
    rows = json.loads(render(summary.long_form([(board, list(summaries.values()))]), "json"))
    assert rows[0]["against"][rows[1]["method"]] == [
        getattr(summaries[rows[0]["method"]].against[rows[1]["method"]], name)
        for name in ("wins", "ties", "losses")
    ]
    markdown = render(summary.table(list(summaries.values()), board.metric), "md")
    assert markdown.startswith("| method | n | average rank |")
    assert "×" in markdown


def test_nothing_measured_is_a_dash(tmp_path):
    made = FakeStore(tmp_path)
    made.plan("demo")
    ingest(made.paths)
    (board,) = leaderboard(made.paths, "demo")
    for each in summary.summarise(made.paths, board):
        assert each.compressions == dict.fromkeys((0.25, 0.5, 1.0))
        assert each.record == Record()
        assert "–" in render(summary.table([each], board.metric), "md")


def test_what_was_measured_no_further_is_marked(found):
    assert summary._times(4.0, 4.0) == "≥ 4.00×"
    assert summary._times(2.0, 4.0) == "2.00×"
