"""The summary of a board agrees with the board, the views and the statistics."""

import json

import pytest

from prunectl.results import summary
from prunectl.results.formats import render
from prunectl.results.leaderboard import leaderboard
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
        assert (row.n, row.planned) == (30, 30)


def test_the_largest_compression_is_found_again_in_sql(paths, found):
    _, summaries = found
    sql = """
        SELECT max(compression) FROM leaderboard, (SELECT mean AS dense FROM leaderboard WHERE iteration = 0)
        WHERE iteration > 0 AND strategy = $1 AND median - dense >= -$2 - 1e-9"""
    for label, each in summaries.items():
        assert set(each.compressions) == {0.0, 0.25, 0.5, 1.0}
        for loss, compression in each.compressions.items():
            assert query.run(paths, sql, [label, loss]).rows == [(compression,)]


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
    ties = sum(gap.low <= 0 <= gap.high for gap in gaps)
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
        assert each.compressions == dict.fromkeys((0.0, 0.25, 0.5, 1.0))
        assert each.record == Record()
        assert "–" in render(summary.table([each], board.metric), "md")


def test_what_was_measured_no_further_is_marked(found):
    assert summary._times(4.0, 4.0) == "≥ 4.00×"
    assert summary._times(2.0, 4.0) == "2.00×"
