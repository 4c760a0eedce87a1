"""The views with a pilot at the keys: cells, messages, and the requests that are sent."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
from textual.widgets import Button

from prunectl.monitor.snapshot import Snapshot
from prunectl.store.requests import Answer
from prunectl.tui.poller import Poller, SnapshotReady
from prunectl.tui.requests import Request
from prunectl.tui.results_reader import Boards
from prunectl.tui.screens.dialogs import Confirm
from prunectl.tui.screens.help import Help
from prunectl.tui.screens.trial import TrialScreen
from prunectl.tui.widgets.header import Header
from tests.support import fake_snapshot as made
from tests.support.fake_snapshot import STATES, Stage

LR0 = made.trial("lr-rewind", 0)
MOST_KEYS = 8
"""In the footer: what more there is, help and the palette show."""


def rows(stage: Stage, name: str) -> list[str]:
    """The keys of a table's rows."""
    table = stage.table(name)
    return [table._key(item) for item in table.rows]


# rows keep their place


def test_the_cursor_follows_its_key() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        table = stage.table("trials")
        table.focus()
        await stage.press("down", "down")
        key = table.cursor_key
        snapshot = made.busy()
        await stage.change(replace(snapshot, queue=snapshot.queue[1:]))
        assert table.cursor_key == key
        assert table.cursor == 1
        await stage.change(replace(snapshot, queue=tuple(reversed(snapshot.queue))))
        assert table.cursor_key == key
        await stage.change(replace(snapshot, queue=()))
        assert table.item is not None

    stage.play(story)


def test_the_cursor_keeps_its_place_where_its_row_is_gone() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        table = stage.table("trials")
        table.focus()
        await stage.press("down", "down")
        snapshot = made.busy()
        await stage.change(replace(snapshot, queue=(*snapshot.queue[:2], *snapshot.queue[3:])))
        assert table.cursor == 2
        assert table.item.view.trial == snapshot.queue[3].trial

    stage.play(story)


def test_sorting_by_keys_and_by_the_heading() -> None:
    stage = Stage(made.left())

    async def story(stage: Stage) -> None:
        table = stage.table("trials")
        natural = rows(stage, "trials")
        names = [name for name in table.shown_columns() if name not in ("glyph",)]
        for _ in range(names.index("seed") + 1):
            await stage.press("full_stop")
        assert table.sort_column == "seed"
        assert [item.view.seed for item in table.rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        await stage.press("r")
        assert [item.view.seed for item in table.rows][:3] == [2, 2, 2]
        assert "by SEED ↓" in stage.text()
        table.sort_by(None)
        assert rows(stage, "trials") == natural
        await stage.pilot.click("#trials", offset=(12, 1))
        await stage.settle()
        assert table.sort_column is not None

    stage.play(story)


def test_filter_narrows_while_typing_and_escape_clears() -> None:
    stage = Stage(made.left())

    async def story(stage: Stage) -> None:
        stage.table("trials").focus()
        await stage.press("slash", *"lr-rew")
        assert len(stage.table("trials").rows) == 3
        assert "3 of 9" in stage.text()
        await stage.press("enter")
        assert stage.table("trials").has_focus
        await stage.press("escape")
        assert len(stage.table("trials").rows) == 9
        await stage.press("slash", *"!lr-rewind", "enter")
        assert len(stage.table("trials").rows) == 6
        await stage.press("slash", *"zzz")
        assert "esc clears" in stage.text()
        assert stage.table("trials").rows == []
        await stage.press("escape")
        assert len(stage.table("trials").rows) == 9

    stage.play(story)


def test_pause_freezes_the_view_and_not_the_watching() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        await stage.press("space")
        assert "PAUSED" in stage.text()
        await stage.change(made.left())
        assert stage.app.snapshot is not None
        assert not stage.app.snapshot.scheduler.alive
        assert len(stage.table("running").rows) == 2
        assert "no scheduler since" in stage.text()
        await stage.press("space")
        assert stage.table("running").rows == []
        assert "PAUSED" not in stage.text()

    stage.play(story)


# requests


def test_cancel_asks_and_the_safe_button_has_the_focus() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        stage.table("trials").focus()
        await stage.press("c")
        assert isinstance(stage.app.screen, Confirm)
        assert isinstance(stage.app.focused, Button)
        assert stage.app.focused.id == "safe"
        wanted = stage.table("trials").item.view
        assert wanted.trial[:8] in stage.text()
        await stage.press("enter")
        assert stage.requests == []
        await stage.press("c", "right", "enter")
        assert stage.requests == [Request("cancel", (wanted.trial,))]
        assert "cancel was done" in stage.text()

    stage.play(story)


def test_what_is_done_is_not_cancelled() -> None:
    stage = Stage(made.left())

    async def story(stage: Stage) -> None:
        assert stage.table("trials").item.view.state == "done"
        await stage.press("c")
        assert "nothing to cancel" in stage.text()
        assert stage.requests == []

    stage.play(story)


def test_the_leaderboard_says_that_it_reads_until_it_has() -> None:
    stage = Stage(made.busy(), rows=[])
    may_read = threading.Event()
    read = stage.reader.boards

    def wait() -> Boards:
        may_read.wait(60)
        return read()

    stage.reader.boards = wait  # type: ignore[method-assign]

    async def story(stage: Stage) -> None:
        await stage.pilot.press("2")
        await stage.pilot.pause(0.05)
        assert "Reading the results" in stage.text()
        may_read.set()
        await stage.settle()
        assert "No finished cell yet" in stage.text()

    stage.play(story)


def test_cancelling_a_shared_stage_says_how_many_trials_need_it() -> None:
    snapshot = made.busy()
    wanted = [view.trial for view in snapshot.trials if view.labels["strategy"] == "weight-rewind"]
    shared = replace(snapshot.running[0], trials=tuple(wanted))
    stage = Stage(replace(snapshot, running=(shared,)))

    async def story(stage: Stage) -> None:
        stage.table("running").focus()
        await stage.press("c")
        assert "3 trials that need this stage" in stage.text()
        await stage.press("escape")
        assert stage.requests == []

    stage.play(story)


def test_hold_release_retry_priority_drain_and_stop() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        table = stage.table("trials")
        table.focus()
        first = table.item.view.trial
        await stage.press("h")
        await stage.press("plus", "minus")
        held = next(i for i, item in enumerate(table.rows) if item.view.state == "held")
        table.move_to(held)
        await stage.press("h")
        await stage.press("R")
        assert stage.requests == [
            Request("hold", (first,)),
            Request("priority", (first,), change=1),
            Request("priority", (first,), change=-1),
            Request("release", (table.item.view.trial,)),
        ]
        assert "nothing to retry" in stage.text()
        stage.requests.clear()
        await stage.press("D")
        await stage.press("S", "right", "enter")
        assert stage.requests == [Request("drain", device="cuda:0"), Request("stop")]

    stage.play(story)


def test_failures_are_listed_and_retried() -> None:
    stage = Stage(made.failed())

    async def story(stage: Stage) -> None:
        stage.table("trials").focus()
        await stage.press("F")
        assert [item.view.state for item in stage.table("trials").rows] == ["failed", "cancelled"]
        assert all(item.view.kind == "stage_failed" for item in stage.table("events").rows)
        await stage.press("R")
        assert stage.requests == [Request("retry", (stage.table("trials").item.view.trial,))]

    stage.play(story)


def test_a_refused_request_says_why() -> None:
    stage = Stage(made.busy())
    stage.app.send_request = lambda request: Answer(
        False, "no [b]scheduler[/b] is running", by="nobody"
    )

    async def story(stage: Stage) -> None:
        stage.table("trials").focus()
        await stage.press("h")
        assert "no [b]scheduler[/b] is running" in stage.text()

    stage.play(story)


def test_readonly_has_no_keys_that_change_a_run() -> None:
    stage = Stage(made.busy(), readonly=True)

    async def story(stage: Stage) -> None:
        stage.table("trials").focus()
        await stage.press("c", "h", "R", "plus", "minus", "D", "S")
        assert not isinstance(stage.app.screen, Confirm)
        assert stage.requests == []
        assert not {key.description for key in stage.footer()} & {"Cancel", "Hold", "Retry"}
        assert "read only" in stage.text()
        await stage.press("question_mark")
        ids = {key.key for key in stage.app.screen.query_one("#help-keys").items}  # type: ignore[attr-defined]
        assert not ids & {
            "trial.cancel",
            "trial.hold",
            "trial.retry",
            "app.stop",
            "dashboard.drain",
        }
        stage.app.send(Request("stop"))
        await stage.settle()
        assert stage.requests == []

    stage.play(story)


# help, commands, copying


def test_help_filters_as_one_types() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        await stage.press("question_mark")
        assert isinstance(stage.app.screen, Help)
        listed: Any = stage.app.screen.query_one("#help-keys")
        assert {"trial.cancel", "app.stop", "view.filter", "app.theme"} <= {
            key.key for key in listed.items
        }
        await stage.press(*"retry")
        assert [key.key for key in listed.rows] == ["trial.retry"]
        await stage.press("escape")
        assert not isinstance(stage.app.screen, Help)

    stage.play(story)


def test_every_key_has_a_name_in_the_palette() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        commands = list(stage.app.get_system_commands(stage.app.screen))
        titles = [command.title for command in commands]
        assert len(titles) == len(set(titles))
        for words in ("Cancel the trial", "Stop the run", "Filter", "Rows with all words", "Drain"):
            assert any(words in title for title in titles) or words == "Filter", words
        chosen = next(
            command for command in commands if "Pause" in command.title or "Freeze" in command.title
        )
        chosen.callback()
        await stage.settle()
        assert stage.app.paused

    stage.play(story)


def test_copying_goes_to_the_clipboard_and_says_so() -> None:
    stage = Stage(made.left())

    async def story(stage: Stage) -> None:
        stage.table("trials").focus()
        await stage.press("y", "enter")
        assert stage.app.clipboard == stage.table("trials").item.view.trial
        assert "Copied trial" in stage.text()
        names = [name for name, _ in stage.view.copies()]
        assert "row as TSV" in names
        assert "table as Markdown" in names
        table = dict(stage.view.copies())["table as TSV"]
        assert len(table.splitlines()) == 10
        await stage.press("y", "up", "enter")
        assert stage.app.to_print == [stage.table("trials").item.view.trial]

    stage.play(story)


# sizes


@pytest.mark.parametrize("size", [(79, 24), (80, 19), (20, 5)])
def test_a_small_window_is_told_politely(size: tuple[int, int]) -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        assert "too small" in stage.text().replace("\n", " ") or size == (20, 5)
        assert "Devices" not in stage.text()
        await stage.pilot.resize_terminal(120, 40)
        await stage.settle()
        assert "Devices" in stage.text()

    stage.play(story, size)


@pytest.mark.parametrize("state", STATES)
def test_every_footer_fits(state: str) -> None:
    stage = Stage(STATES[state]())

    async def story(stage: Stage) -> None:
        async def check() -> None:
            keys = stage.footer()
            assert 2 <= len(keys) <= MOST_KEYS
            assert keys[-1].region.right <= 80, [key.description for key in keys]

        await check()
        for key in ("2", "3", "escape"):
            await stage.press(key)
            await check()
        stage.app.action_view("Dashboard")
        await stage.settle()
        await stage.open_trial(LR0.trial)
        await check()

    stage.play(story, (80, 24))


def test_a_narrow_screen_shows_the_lower_panels_one_at_a_time() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        stage.table("trials").focus()
        await stage.settle()
        assert "Queue" in stage.text()
        await stage.press("tab")
        assert "Events" in stage.text()
        assert "Queue" not in stage.text()
        await stage.press("tab")
        assert "Coverage" in stage.text()
        await stage.press("shift+tab", "shift+tab")
        assert "Queue" in stage.text()

    stage.play(story, (80, 24))


# moving


def test_a_trial_opens_with_the_list_it_comes_from() -> None:
    stage = Stage(made.left())

    async def story(stage: Stage) -> None:
        stage.table("trials").focus()
        await stage.press("down", "enter")
        assert isinstance(stage.app.screen, TrialScreen)
        first = stage.app.screen.trial
        await stage.press("right_square_bracket")
        assert stage.app.screen.trial != first
        await stage.press("left_square_bracket")
        assert stage.app.screen.trial == first
        text = stage.text()
        assert "conv1" in text
        assert "epoch 4" in text
        await stage.press("v")
        assert {s.key for s in stage.table("config").rows} == {"strategy", "seed"}
        await stage.press("m")
        assert "test loss" in stage.text()
        await stage.press("escape")
        assert not isinstance(stage.app.screen, TrialScreen)

    stage.play(story)


def test_a_failed_trial_shows_its_traceback() -> None:
    stage = Stage(made.failed())

    async def story(stage: Stage) -> None:
        await stage.open_trial(made.trial("fine-tune", 1).trial)
        assert "torch.OutOfMemoryError" in stage.text()
        assert "out of memory on cuda:0" in stage.text()

    stage.play(story)


def test_the_modes_from_inside_a_trial() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        await stage.open_trial(LR0.trial)
        await stage.press("2")
        assert stage.view.NAME == "Leaderboard"
        await stage.press("1")
        assert stage.view.NAME == "Dashboard"

    stage.play(story)


def test_tabs_can_be_clicked() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        await stage.pilot.click(Header, offset=(28, 0))
        await stage.settle()
        assert stage.view.NAME == "Leaderboard"

    stage.play(story)


# the leaderboard


def test_leaderboard_cells_are_those_of_the_report() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        await stage.press("2")
        text = stage.text()
        for expected in (
            "92.90±0.21 (3)★",
            "92.70±0.21 (3)≈",
            "91.25±0.21 (2/3)",
            "– 0/3",
            "40.00±0.21 (3)!",
        ):
            assert expected in text, expected
        assert "‹+0.20›" in text
        assert "renda2020: Δ +0.20" in text
        await stage.press("d")
        assert "Δ to own dense" in stage.text()
        await stage.press("right", "down")
        assert "weight-rewind @ 0.75" in stage.text()
        await stage.press("x")
        assert "● weight-rewind" in stage.text()
        await stage.press("enter")
        assert isinstance(stage.app.screen, TrialScreen)
        assert stage.app.screen.neighbours == [
            made.trial("weight-rewind", seed).trial for seed in range(3)
        ]

    stage.play(story)


# SQL


def test_sql_runs_tells_errors_and_keeps_its_history() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        await stage.press("3")
        assert "private copy" in stage.text()
        await stage.press("ctrl+j")
        assert "[b]bold[/b]" in stage.text()
        assert "2 rows" in stage.text()
        editor: Any = stage.view.query_one("#editor")
        editor.text = "-- :plan study\nSELECT wrong, $plan"
        await stage.press("f5")
        assert "Binder Error" in stage.text()
        assert stage.reader.made_replica.asked[-1][1] == {"plan": "study"}
        assert len(stage.view.history) == 2  # type: ignore[attr-defined]
        await stage.press("ctrl+o", *["down"] * 4, "enter")
        assert editor.has_focus
        assert "wrong" in editor.text
        await stage.press("escape", "1")
        assert stage.view.NAME == "Dashboard"

    stage.play(story)


# what must not break it


def spoiled() -> Snapshot:
    """Numbers that are none, texts that are hostile, and labels that are missing."""
    snapshot = made.busy()
    bad = replace(
        snapshot.running[0], loss=made.NAN, accuracy=float("inf"), eta=made.NAN, steps=0,
        accuracies=(made.NAN, None, float("-inf")), labels={}, trials=(), sparsity="0",
        epoch={"loss": None, "accuracy": made.NAN},
    )  # fmt: skip
    view = replace(
        snapshot.trials[3], reason="[red]no[/red]\x1b[31m\nline", steps=0, eta=made.NAN, labels={}
    )
    gpu = made.device(
        utilisation=made.NAN, memory_used=None, memory_total=0, temperature=made.NAN, power=made.NAN
    )
    queued = replace(snapshot.queue[0], trial="missing", seconds=made.NAN)
    return replace(
        snapshot, running=(bad, *snapshot.running[1:]), devices=(gpu,), trials=(*snapshot.trials[:3], view),
        queue=(queued, *snapshot.queue), scheduler=replace(snapshot.scheduler, eta=made.NAN, age=made.NAN),
    )  # fmt: skip


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_nan_and_hostile_texts_break_nothing(size: tuple[int, int]) -> None:
    stage = Stage(spoiled())

    async def story(stage: Stage) -> None:
        await stage.press("F")
        await stage.press("F")
        text = stage.text()
        assert "[red]no[/red]" in text or size[0] == 80
        assert "\x1b" not in text
        for _ in range(16):
            stage.table("trials").shift_sort(1)
        await stage.settle()
        await stage.press("2", "3", "escape", "1")
        await stage.open_trial(spoiled().trials[3].trial)
        await stage.press("m", "m", "m", "v", "f", "tab")

    stage.play(story, size)


def test_a_store_that_cannot_be_read_is_told() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        def poll() -> Snapshot | None:
            raise OSError("stale file handle")

        stage.source.poll = poll  # type: ignore[method-assign]
        stage.app.poller.poll_now()
        await stage.pilot.pause(0.2)
        assert "cannot read the store" in stage.text()
        assert len(stage.table("running").rows) == 2

    stage.play(story)


# the thread


def test_only_the_newest_snapshot_waits() -> None:
    first, second = SnapshotReady(made.busy()), SnapshotReady(made.left())
    assert second.can_replace(first)


def test_the_poller_slows_down_when_nothing_happens() -> None:
    class Silent:
        def poll(self) -> None:
            return None

    poller = Poller(Silent, None, 0.5)  # type: ignore[arg-type]
    poller._changed -= 31
    for _ in range(5):
        poller._slow_down()
    assert poller.interval == 4.0
    poller.speed_up()
    assert poller.interval == 0.5


def test_textual_is_loaded_only_to_watch() -> None:
    code = (
        "import sys, prunectl.cli.app, prunectl.cli.watch, prunectl.tui\n"
        "assert not {'textual', 'torch', 'duckdb', 'plotext'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_themes_of_all_kinds_draw() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        await stage.open_trial(LR0.trial)
        for theme in ("dracula", "ansi-light", "textual-light"):
            stage.app.theme = theme
            await stage.pilot.pause()
        await stage.press("2")
        for theme in ("ansi-dark", "textual-dark"):
            stage.app.theme = theme
            await stage.pilot.pause()
        assert "METHOD" in stage.text()

    stage.play(story)


def test_the_end_of_the_run_is_told() -> None:
    stage = Stage(made.busy())

    async def story(stage: Stage) -> None:
        await stage.change(made.left())
        assert "The scheduler has ended: 8/9 done" in stage.text()

    stage.play(story)


def test_the_first_screen_does_not_wait_for_the_database_or_plots() -> None:
    code = (
        "import sys, prunectl.tui.app\n"
        "print(sorted({'duckdb', 'torch', 'numpy', 'scipy', 'plotext', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_trial_that_waits_for_a_replay_shows_what_the_replay_does() -> None:
    snapshot = made.busy()
    view = next(v for v in snapshot.trials if v.trial == LR0.trial)
    waiting = replace(view, reason="replay of 0000dddd to step 4")
    trials = tuple(waiting if v is view else v for v in snapshot.trials)
    replay = made.running(waiting, key="4e91a7" + "0" * 58, replay=True, step=250, steps=1000)
    stage = Stage(replace(snapshot, trials=trials, running=(*snapshot.running, replay)))

    async def story(stage: Stage) -> None:
        await stage.open_trial(LR0.trial)
        shown = stage.text()
        assert "replay of 0000dddd to step 4 (250/1k)" in shown
        assert "replay: epoch 4  accuracy" in shown
        assert "Curve: test accuracy" in shown
        points = stage.view.detail.points  # type: ignore[attr-defined]
        await stage.change(replace(snapshot, trials=trials))
        assert "replay: epoch 4  accuracy" in stage.text()
        assert stage.view.detail.points == points  # type: ignore[attr-defined]

    stage.play(story)


def test_where_nothing_waits_failures_are_one_key_away() -> None:
    stage = Stage(replace(made.failed(), queue=()))

    async def story(stage: Stage) -> None:
        assert "All trials" in stage.text()
        await stage.press("F")
        assert "Failed, blocked and cancelled 2" in stage.text()
        await stage.press("F")
        assert "All trials" in stage.text()

    stage.play(story)
