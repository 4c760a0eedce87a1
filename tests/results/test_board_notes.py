"""What stands beside a table: the sparsity reached, and that a small test set makes it a demonstration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunectl.cli.support.boards import print_boards
from prunectl.results.board_notes import FEWEST_ITEMS, column_head, reached_text, small_test_set
from prunectl.results.formats import render
from prunectl.results.leaderboard import leaderboard
from prunectl.spec.task import CLASSIFICATION, Metric
from prunectl.store.db.ingest import ingest
from tests.support.fake_store import PRUNABLE, FakeStore

WEIGHTS = 266_200


@pytest.mark.parametrize(
    ("target", "reached", "text"),
    [
        (0.8, [0.79], "0.79"),
        (0.8, [0.781, 0.8114], "0.78–0.81"),
        (0.8, [0.8, 0.79], "0.79–0.80"),
        (0.8, [0.8004, 0.7996], ""),
        (0.657, [0.679], "0.679"),
        (0.8, [None], ""),
        (0.8, [], ""),
    ],
)
def test_the_sparsity_reached_is_said_where_it_is_another(target, reached, text):
    assert reached_text(target, [(value, WEIGHTS) for value in reached]) == text


@given(st.integers(1, 10**7), st.floats(0.001, 0.9999))
def test_whole_weights_reach_their_target(prunable, target):
    """To the weight: what a mask of exactly as many weights as can be reaches is not another sparsity."""
    kept = max(1, round(prunable * (1 - target)))
    if abs(kept - prunable * (1 - target)) < 0.999:
        assert reached_text(target, [(1 - kept / prunable, prunable)]) == ""


def test_heads_name_what_was_asked_and_what_was_reached():
    assert column_head(0.8, "") == "0.8"
    assert column_head(0.96875, "0.97") == "0.9688 (reached 0.97)"
    assert column_head(0.8, "0.79", word="") == "0.8 (0.79)"


@pytest.mark.parametrize("items", [1, 360, FEWEST_ITEMS - 1, FEWEST_ITEMS, 10_000])
def test_a_test_set_is_small_where_an_item_is_more_than_a_tenth_of_a_point(items):
    note = small_test_set("digits", "classification", CLASSIFICATION.score, 100 / items)
    assert bool(note) == (100 / items > 0.1)
    if items == 360:
        assert note == ("one test image of digits is 0.28 points: a demonstration, not a result")


def test_other_tasks_are_spoken_of_in_their_own_units():
    share = Metric("f1", digits=4, per_item=1.0)
    assert small_test_set("words", "tagging", share, 1 / 400) == (
        "one test item of words is 0.0025 f1: a demonstration, not a result"
    )
    assert small_test_set("words", "tagging", Metric("rmse"), 0.0) == ""
    assert small_test_set("words", "tagging", share, None) == ""


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Channels: at 0.5 the methods reach one sparsity, at 0.75 each its own; 360 test images."""
    made = FakeStore(tmp_path_factory.mktemp("store"))
    made.plan("demo", sparsities=("0.5", "0.75"), schedule="one-shot")
    for key in made.stages:
        kept, _, _ = made.numbers(key)
        strategy = made.stages[key]["labels"]["strategy"]
        fewer = {PRUNABLE: 1.0, PRUNABLE // 2: 0.96}.get(
            kept, 0.9 if strategy == "fine-tune" else 1.0
        )
        made.finish(key, kept=int(kept * fewer), test_items=360)
    ingest(made.paths)
    return made.paths


def test_tables_have_both_in_their_heads(paths):
    (board,) = leaderboard(paths)
    heads = ["method", "0.5 (reached 0.52)", "0.75 (reached 0.75–0.78)"]
    assert list(board.table().columns) == list(board.table(delta=True).columns) == heads
    for form in ("md", "latex", "csv"):
        assert "0.5 (reached 0.52)" in render(board.table(), form)


def test_the_note_stands_under_the_table(paths, capsys):
    boards = leaderboard(paths)
    print_boards([*boards, *boards])
    printed = capsys.readouterr().out
    note = "one test image of digits is 0.28 points: a demonstration, not a result\n"
    assert printed.count(note.replace("digits", "cifar10")) == 1
    assert "0.75 (reached 0.75–0.78)" in printed
