"""From snapshots and logs to rows and words: no screen, no store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from prunectl.monitor.snapshot import SchedulerView, Snapshot, VersionView
from prunectl.results.leaderboard import boards
from prunectl.spec.task import KNOWN
from prunectl.store.records.events import Begin, Epoch
from prunectl.store.records.result import Result
from prunectl.tui import sql_view
from prunectl.tui import status_lines as status
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column, matches, ordered, visible
from prunectl.tui.results_reader import Boards
from prunectl.tui.rows import leaderboard as b
from prunectl.tui.rows.coverage import coverage_cell, coverage_rows
from prunectl.tui.rows.events import event_rows
from prunectl.tui.rows.running import phase, running_columns, trouble
from prunectl.tui.rows.study import Distinctions, method, study_of
from prunectl.tui.rows.trials import TrialList, trial_columns
from prunectl.tui.trial_detail import detail_of
from prunectl.tui.widgets.curve import Picture
from tests.support import fake_snapshot as made
from tests.support.other_task import REGRESSION, TASK_NAME

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [None, NAN, INF, -INF, "x", object()])
def test_what_is_no_number_is_written_somehow(value: Any) -> None:
    assert t.finite(value) is None
    for write in (t.number, t.signed, t.short, t.duration, t.clock, t.minutes, t.size):
        assert isinstance(write(value), str)
    assert t.bar(value, 5) == "     "
    assert t.spark([value, value], 5) == ""


def test_numbers() -> None:
    assert t.number(92.345) == "92.34"
    assert t.number(NAN) == "nan"
    assert t.signed(-0.5) == "−0.50"
    assert [t.short(x) for x in (0.05, 943, 6152, 1.2e6)] == ["0.05", "943", "6.15k", "1.2M"]
    assert [t.duration(x) for x in (47, 184, 8100, 273600)] == ["47s", "3m04", "2h15", "3d04h"]
    assert t.clock(1e300) == t.DASH
    assert t.sparsity("0.959646393") == "0.9596"


def test_bars_and_sparks() -> None:
    assert t.bar(0.5, 4) == "██  "
    assert t.bar(7, 4) == "████"
    assert len(t.boxed(0.31, 12)) == 12
    assert t.spark([1, 2, 3], 10) == "▁▅█"
    assert t.spark([5, 5], 10) == "▄▄"
    assert t.spark([1, NAN, 3], 10) == "▁ █"
    assert t.spark(range(100), 4) == "▁▃▆█"


def columns(*items: tuple[str, int, int]) -> list[Column[str]]:
    return [Column(name, name, width, lambda x: Cell(x), rank=rank) for name, width, rank in items]


def test_columns_give_way_by_rank_and_the_flexible_one_takes_the_rest() -> None:
    listed = columns(("a", 10, 0), ("b", 10, 2), ("c", 10, 1))
    assert [c.name for c, _ in visible(listed, 40)] == ["a", "b", "c"]
    assert [c.name for c, _ in visible(listed, 25)] == ["a", "c"]
    assert [c.name for c, _ in visible(listed, 5)] == ["a"]
    listed[0] = replace(listed[0], flex=True)
    assert [wide for _, wide in visible(listed, 40)] == [18, 10, 10]


def test_filters() -> None:
    assert matches("lr-rewind 0.9 seed 3", "LR seed")
    assert not matches("lr-rewind 0.9", "lr 0.5")
    assert not matches("lr-rewind 0.9", "!lr")
    assert matches("fine-tune", "!lr")
    assert matches("anything", "!")


def test_sorting_puts_what_is_no_number_last() -> None:
    column: Column[Any] = Column("x", "X", 1, lambda x: Cell(str(x)), order=lambda x: x)
    assert ordered([3.0, NAN, None, 1.0], column, False)[:2] == [1.0, 3.0]
    assert ordered([3.0, NAN, None, 1.0], column, True)[:2] == [3.0, 1.0]


# a snapshot


def test_what_all_trials_share_is_not_named() -> None:
    snapshot = made.busy()
    study = study_of(snapshot.trials)
    assert study == Distinctions()
    assert method(snapshot.trials[0].trial.labels, study) == "fine-tune"
    first = snapshot.trials[0]
    changed = msgspec.structs.replace(first.trial, cell="z", network="vgg-16", scope="uniform")
    other = replace(first, trial=changed)
    varied = study_of((*snapshot.trials, other))
    assert varied.varied == ("scope",)
    assert varied.places == ("network",)
    assert method(other.trial.labels, varied) == "fine-tune uniform"


def test_seeds_that_are_apart_are_shown_whole() -> None:
    first = made.busy().trials[0]
    apart = replace(
        first, trial=msgspec.structs.replace(first.trial, order_seed=12, augment_seed=345)
    )
    study = study_of([first, apart])
    assert study.seed_width == len("0/12/345")
    rows = TrialList()
    rows.update(replace(made.busy(), trials=(apart,)))
    (column,) = (each for each in trial_columns(study) if each.name == "seed")
    assert column.cell(rows.all()[0]).text == f"{first.trial.seed}/12/345"
    assert column.width == study.seed_width


def test_a_length_that_follows_from_the_strategy_tells_nothing() -> None:
    trials = [
        replace(
            view,
            trial=msgspec.structs.replace(
                view.trial, cell=view.trial.strategy, retrain=view.trial.strategy
            ),
        )
        for view in made.busy().trials
    ]
    assert study_of(trials).varied == ()


def test_running_rows_mark_what_goes_wrong() -> None:
    snapshot = made.busy()
    found = snapshot.running
    assert [trouble(view) for view in found] == ["", "diverged"]
    assert trouble(made.running(snapshot.trials[0], scores=(90.0, 10.0))) == "collapsing"
    assert [phase(view) for view in found] == ["it 1/3", "it 1/3"]
    assert phase(replace(found[0], replay=True)) == "replay"
    for column in running_columns(Distinctions(places=("network",))):
        for view in found:
            assert isinstance(column.cell(view).text, str)


def test_trial_rows_are_kept_while_their_trial_is_the_same() -> None:
    snapshot = made.busy()
    listed = TrialList()
    listed.update(snapshot)
    first = listed.all()
    listed.update(replace(snapshot, time=snapshot.time + 1))
    assert all(a is b for a, b in zip(first, listed.all(), strict=True))
    assert [row.position for row in listed.queue(snapshot)] == [1, 2, 3, 4, 5]
    changed = (replace(snapshot.trials[0], state="failed"), *snapshot.trials[1:])
    listed.update(replace(snapshot, trials=changed))
    assert listed.all()[0].view.state == "failed"
    assert [row.view.state for row in listed.unfinished()] == ["failed"]


def test_events_newest_first_and_about_what() -> None:
    snapshot = made.failed()
    listed = TrialList()
    listed.update(snapshot)
    found = event_rows(snapshot, listed, Distinctions(), False)
    assert found[0].view.kind == "stage_failed"
    assert found[0].about == "fine-tune 0.5 seed 1"
    assert len(event_rows(snapshot, listed, Distinctions(), True)) == 1


def test_coverage() -> None:
    table, sparsities = coverage_rows(made.busy(), Distinctions())
    assert [row.label for row in table] == list(made.STRATEGIES)
    assert sparsities == ["0.5", "0.75", "0.9"]
    assert coverage_cell(table[0].cells["0.5"]).text == "2▶"
    failed, _ = coverage_rows(made.failed(), Distinctions())
    assert coverage_cell(failed[0].cells["0.5"]) == Cell("1!", "bad")


# the line on top


def said(snapshot: Snapshot | None, width: int = 118, trouble: str = "") -> str:
    return "".join(text for text, _ in status.status(snapshot, made.NOW, width, trouble))


def test_the_status_says_who_is_at_work() -> None:
    assert said(None) == "reading the store …"
    assert said(made.busy()).startswith("● scheduler, beat 1 s")
    assert "ETA 13:00" in said(made.busy())
    assert "no scheduler since 11:40" in said(made.left())
    assert "goes on" in said(made.left())
    assert "`prunectl run PLAN` starts one" in said(made.nothing())
    silent = replace(made.busy(), scheduler=SchedulerView(True, age=42.0))
    assert "silent for 42s" in said(silent)
    assert "stopping" in said(
        replace(made.busy(), scheduler=SchedulerView(True, age=1.0, stopping="soft"))
    )
    vanished = replace(made.busy(), scheduler=SchedulerView(False, age=600.0))
    assert "vanished about 11:50" in said(vanished)
    assert "cannot read" in said(made.busy(), trouble="gone")


@pytest.mark.parametrize("width", [10, 40, 78, 118, 300])
@pytest.mark.parametrize("state", made.STATES)
def test_the_status_fits(state: str, width: int) -> None:
    assert len(said(made.STATES[state](), width)) <= width


def test_no_scheduler_says_what_helps_in_eighty_columns() -> None:
    assert "`prunectl run PLAN`" in said(made.left(), 78)


def test_never_a_hundred_percent_before_the_end() -> None:
    plan = replace(made.busy().plans[0], steps=10**6, steps_done=10**6 - 1)
    assert "99.9 %" in said(replace(made.busy(), plans=(plan,)))


# one trial


def test_a_trial_from_its_logs() -> None:
    view = made.trial("lr-rewind", 0, "running", 2)
    found = {key: made.records(k) for k, key in enumerate(view.trial.path[:3])}
    detail = detail_of(view, found, {}, ("strategy",))
    assert [step for step, _ in detail.epochs[:5]] == [250, 500, 750, 1000, 1250]
    assert [(p.x, p.sparsity, p.score) for p in detail.prunings] == [
        (1000, "0.5", 61.2),
        (2000, "0.75", 61.2),
    ]
    assert detail.dense == 92.0
    assert [layer.density for layer in detail.layers] == [0.75, 1 / 3]
    assert {s.key for s in detail.settings if s.varied} == {"strategy", "seed"}


def test_epochs_logged_again_after_a_crash_count_once() -> None:
    view = made.trial("lr-rewind", 0, "running", 0)
    epochs = [
        Epoch(epoch=1, step=250, score=80.0, attempt=1),
        Epoch(epoch=2, step=500, score=81.0, attempt=1),
        Epoch(epoch=2, step=500, score=82.0, attempt=2),
    ]
    detail = detail_of(view, {view.trial.path[0]: epochs}, {})
    assert [record.score for _, record in detail.epochs] == [80.0, 82.0]


# the leaderboard


def test_published_numbers_stand_beside_the_cells_they_belong_to() -> None:
    board = boards(made.board_rows(), KNOWN)[0]
    lines = b.method_rows(board, Boards((board,), made.published(2)))
    found = {(line.key, at): p.delta for line in lines for at, (_, p) in line.published.items()}
    assert found == {("lr-rewind", board.columns[1]): pytest.approx(0.2)}


def test_the_second_line_of_a_cell_tells_what_the_first_does_not() -> None:
    cell = next(
        line
        for line in b.method_rows(boards(made.board_rows(), KNOWN)[0], Boards())
        if line.strategy == "lr-rewind"
    )
    number = next(iter(cell.cells.values()))
    assert b.number_cell(number, None, True, False).below == "+0.40"
    changed = b.number_cell(number, None, True, True)
    assert changed.text.startswith("+0.40")
    assert changed.below == "92.90"


def test_heads_say_which_sparsity_was_reached() -> None:
    rows = [
        row | {"sparsity": 0.478}
        if row["iteration"] == 1 and row["strategy"] == "fine-tune"
        else row
        for row in made.board_rows()
    ]
    board = boards(rows, KNOWN)[0]
    for wide in (True, False):
        columns = b.board_columns(board, wide=wide, delta=False)
        assert [c.heading for c in columns] == ["METHOD", "0.5 (0.48–0.50)", "0.75", "0.9"]
        assert all(len(c.heading) <= c.width for c in columns)
    assert "(sparsity reached)" in b.legend(board, [])
    assert "(sparsity reached)" not in b.legend(boards(made.board_rows(), KNOWN)[0], [])


def test_board_lines_words_and_curves() -> None:
    board = boards(made.board_rows(), KNOWN)[0]
    lines = b.method_rows(board, Boards((board,)))
    assert [line.key for line in lines] == ["dense", "lr-rewind", "weight-rewind", "fine-tune"]
    wide = b.board_columns(board, wide=True, delta=False)
    assert [c.heading for c in wide] == ["METHOD", "0.5", "0.75", "0.9"]
    assert wide[1].cell(lines[1]) == Cell("92.90±0.21 (3)★", "good", "+0.40")
    assert wide[3].cell(lines[1]).text == "91.25±0.21 (2/3)"
    narrow = b.board_columns(board, wide=False, delta=True)
    assert narrow[1].cell(lines[1]).text == "+0.40★"
    for line in lines:
        for sparsity, cell in line.cells.items():
            assert b.cell_text(line, sparsity, cell, ())
    picture = b.picture(board, lines, lines[1])
    assert isinstance(picture, Picture)
    assert [series.label for series in picture.series] == [
        "lr-rewind",
        "weight-rewind",
        "fine-tune",
    ]


# SQL


def test_parameters_of_a_question_stand_in_its_comments() -> None:
    sql = "-- a question\n-- :plan %\n-- :unused 3\nSELECT * FROM leaderboard WHERE plan LIKE $plan"
    assert sql_view.parameters(sql) == {"plan": "%"}


def test_the_list_of_questions() -> None:
    replica = made.MadeReplica()
    listed = sql_view.entries({"best": "SELECT 1"}, ["SELECT 2"], replica.tables())
    assert [entry.kind for entry in listed][:4] == ["heading", "recipe", "heading", "history"]
    assert next(entry for entry in listed if entry.key == "t/epochs").text == "  epochs  61,204"


# another task than classification


def test_a_board_of_another_task_has_its_names_digits_and_direction() -> None:
    rows = [
        {name: value / 100 if name in ("mean", "std", "ci", "delta", "delta_ci") and value else value
         for name, value in (row | {"task": TASK_NAME}).items()}
        for row in made.board_rows()
    ]  # fmt: skip
    board = boards(rows, {TASK_NAME: REGRESSION})[0]
    assert b.title(board, 0, 1, False).endswith("test rmse, mean±std (n) (lower is better)")
    lines = b.method_rows(board, Boards((board,)))
    wide = b.board_columns(board, wide=True, delta=False)
    assert wide[1].cell(lines[1]) == Cell("0.9290±0.0021 (3)★", "good", "+0.0040")
    assert wide[1].width >= len("0.9290±0.0021 (2/3)≈!")
    narrow = b.board_columns(board, wide=False, delta=True)
    assert narrow[1].cell(lines[1]).text == "+0.0040★"
    said = " ".join(b.cell_text(lines[1], 0.5, lines[1].cells[0.5], ()))
    assert "0.9290 ± 0.0021 (n 3)" in said
    assert "95 % [0.9238, 0.9342]" in said


def test_a_trial_of_another_task_shows_what_that_measures() -> None:
    view = made.trial("lr-rewind", 0)
    view = replace(view, trial=msgspec.structs.replace(view.trial, task=TASK_NAME))
    log = [
        Begin(score_start=0.5, metrics={"rmse_start": 0.5}),
        Epoch(epoch=1, step=250, score=0.25, metrics={"rmse": 0.25, "r2": 0.5}),
        Result(score=0.2, metrics={"rmse": 0.2}, steps=250, seconds=1.0),
    ]
    detail = detail_of(view, {view.trial.path[0]: log}, {}, tasks={TASK_NAME: REGRESSION})
    assert (detail.last, detail.dense) == (0.25, 0.2)
    assert list(detail.curves.values()) == [
        "test rmse", "test loss", "training loss", "rate", "test r2",
    ]  # fmt: skip
    texts = [line.text for line in detail.log]
    assert texts[0].endswith("starts from rmse 0.5000")
    assert texts[1].startswith("epoch 1  rmse 0.2500")
    assert texts[2].startswith("done: rmse 0.2000")


def test_versions_are_named_where_there_are_several() -> None:
    """On every screen's first line, and over the tables of the leaderboard."""
    snapshot = made.busy()
    (plan,) = snapshot.plans
    assert status.context(snapshot, 80) == f"study · {made.STORE}"
    two = tuple(
        VersionView(number, f"{number}", "study.toml", 9, made.NOW, number == 2)
        for number in (1, 2)
    )
    several = replace(snapshot, plans=(replace(plan, version=2, versions=two),))
    assert status.context(several, 80) == f"study v2 · {made.STORE}"
    rows = made.board_rows()
    earlier = [{**row, "version": 1, "current": False} for row in rows]
    current = [{**row, "version": 2} for row in rows]
    both = [{**row, "versions": 2} for row in (*current, *earlier)]
    titles = [b.title(board, 0, 2, False) for board in boards(both, KNOWN)]
    assert [title.split(" · ")[0] for title in titles] == ["study v2", "study v1 (not current)"]
    (alone,) = boards(rows, KNOWN)
    assert b.title(alone, 0, 1, False).startswith("study · ")
