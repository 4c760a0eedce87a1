"""The views with a pilot at the keys: cells, messages, and the requests that are sent."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from textual.widgets import Button

from prunectl.errors import StoreError
from prunectl.monitor.snapshot import Snapshot
from prunectl.results.claims import judge
from prunectl.results.plan_claims import PlanClaim
from prunectl.results.samples import Sample, Seed
from prunectl.spec.claim import Claim
from prunectl.spec.trial import LABELS
from prunectl.store.records.events import Epoch
from prunectl.store.requests import Answer
from prunectl.tui.columns import text_of
from prunectl.tui.poller import Poller, SnapshotReady
from prunectl.tui.requests import Request
from prunectl.tui.results_reader import Boards, SeedPoint
from prunectl.tui.screens.dialogs import Confirm
from prunectl.tui.screens.help import Help
from prunectl.tui.screens.trial import TrialScreen
from prunectl.tui.trial_detail import Setting
from prunectl.tui.widgets.header import Header
from tests.support import fake_snapshot as made
from tests.support.fake_snapshot import STATES, Harness

LR0 = made.trial("lr-rewind", 0)
MOST_KEYS = 8
"""In the footer: what more there is, help and the palette show."""


def rows(ui: Harness, name: str) -> list[str]:
    """The keys of a table's rows."""
    table = ui.table(name)
    return [table._key(item) for item in table.rows]


# rows keep their place


def test_the_cursor_follows_its_key() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        table = ui.table("trials")
        table.focus()
        await ui.press("down", "down")
        key = table.cursor_key
        snapshot = made.busy()
        await ui.change(replace(snapshot, queue=snapshot.queue[1:]))
        assert table.cursor_key == key
        assert table.cursor == 1
        await ui.change(replace(snapshot, queue=tuple(reversed(snapshot.queue))))
        assert table.cursor_key == key
        await ui.change(replace(snapshot, queue=()))
        assert table.item is not None

    ui.play(story)


def test_the_cursor_keeps_its_place_where_its_row_is_gone() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        table = ui.table("trials")
        table.focus()
        await ui.press("down", "down")
        snapshot = made.busy()
        await ui.change(replace(snapshot, queue=(*snapshot.queue[:2], *snapshot.queue[3:])))
        assert table.cursor == 2
        assert table.item.view.trial.id == snapshot.queue[3].trial

    ui.play(story)


def test_sorting_by_keys_and_by_the_heading() -> None:
    ui = Harness(made.left())

    async def story(ui: Harness) -> None:
        table = ui.table("trials")
        natural = rows(ui, "trials")
        names = [column.name for column, _ in table._layout() if column.name != "glyph"]
        for _ in range(names.index("seed") + 1):
            await ui.press("full_stop")
        assert table.sort_column == "seed"
        assert [item.view.trial.seed for item in table.rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        await ui.press("r")
        assert [item.view.trial.seed for item in table.rows][:3] == [2, 2, 2]
        assert "by SEED ↓" in ui.text()
        table.sort_by(None)
        assert rows(ui, "trials") == natural
        await ui.pilot.click("#trials", offset=(12, 1))
        await ui.settle()
        assert table.sort_column is not None

    ui.play(story)


def test_filter_narrows_while_typing_and_escape_clears() -> None:
    ui = Harness(made.left())

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.press("slash", *"lr-rew")
        assert len(ui.table("trials").rows) == 3
        assert "3 of 9" in ui.text()
        await ui.press("enter")
        assert ui.table("trials").has_focus
        await ui.press("escape")
        assert len(ui.table("trials").rows) == 9
        await ui.press("slash", *"!lr-rewind", "enter")
        assert len(ui.table("trials").rows) == 6
        await ui.press("slash", *"zzz")
        assert "esc clears" in ui.text()
        assert ui.table("trials").rows == []
        await ui.press("escape")
        assert len(ui.table("trials").rows) == 9

    ui.play(story)


def test_a_filter_reads_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def counted(item: Any, columns: Any) -> str:
        read.append(item)
        return text_of(item, columns)

    monkeypatch.setattr("prunectl.tui.widgets.table.text_of", counted)
    ui = Harness(made.left())

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.press("slash", *"lr-rew")
        assert len(ui.table("trials").rows) == 3
        assert len(read) == 9

    ui.play(story)


def test_a_filter_keeps_rows_that_share_a_name() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.open_trial(LR0.trial.id)
        config = ui.table("config")
        config.apply([Setting("seed", "0", True), Setting("seed", "1")])
        config.filter("seed")
        assert [setting.value for setting in config.rows] == ["0", "1"]

    ui.play(story)


def test_pause_freezes_the_view_and_not_the_watching() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.press("space")
        assert "PAUSED" in ui.text()
        await ui.change(made.left())
        assert ui.app.snapshot is not None
        assert not ui.app.snapshot.scheduler.alive
        assert len(ui.table("running").rows) == 2
        assert "no scheduler since" in ui.text()
        await ui.press("space")
        assert ui.table("running").rows == []
        assert "PAUSED" not in ui.text()

    ui.play(story)


# requests


def test_cancel_asks_and_the_safe_button_has_the_focus() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.press("c")
        assert isinstance(ui.app.screen, Confirm)
        assert isinstance(ui.app.focused, Button)
        assert ui.app.focused.id == "safe"
        wanted = ui.table("trials").item.view
        assert wanted.trial.id[:8] in ui.text()
        await ui.press("enter")
        assert ui.requests == []
        await ui.press("c", "right", "enter")
        assert ui.requests == [Request("cancel", (wanted.trial.id,))]
        assert "cancel was done" in ui.text()

    ui.play(story)


def test_what_is_done_is_not_cancelled() -> None:
    ui = Harness(made.left())

    async def story(ui: Harness) -> None:
        assert ui.table("trials").item.view.state == "done"
        await ui.press("c")
        assert "nothing to cancel" in ui.text()
        assert ui.requests == []

    ui.play(story)


def test_the_leaderboard_says_that_it_reads_until_it_has() -> None:
    ui = Harness(made.busy(), rows=[])
    may_read = threading.Event()
    read = ui.reader.boards

    def wait() -> Boards:
        may_read.wait(60)
        return read()

    ui.reader.boards = wait  # type: ignore[method-assign]

    async def story(ui: Harness) -> None:
        await ui.pilot.press("2")
        await ui.pilot.pause(0.05)
        assert "Reading the results" in ui.text()
        may_read.set()
        await ui.settle()
        assert "No finished cell yet" in ui.text()

    ui.play(story)


def test_cancelling_a_shared_stage_says_how_many_trials_need_it() -> None:
    snapshot = made.busy()
    wanted = [view.trial.id for view in snapshot.trials if view.trial.strategy == "weight-rewind"]
    shared = replace(snapshot.running[0], trials=tuple(wanted))
    ui = Harness(replace(snapshot, running=(shared,)))

    async def story(ui: Harness) -> None:
        ui.table("running").focus()
        await ui.press("c")
        assert "3 trials that need this stage" in ui.text()
        await ui.press("escape")
        assert ui.requests == []

    ui.play(story)


def test_hold_release_retry_priority_drain_and_stop() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        table = ui.table("trials")
        table.focus()
        first = table.item.view.trial.id
        await ui.press("h")
        await ui.press("plus", "minus")
        held = next(i for i, item in enumerate(table.rows) if item.view.state == "held")
        table.move_to(held)
        await ui.press("h")
        await ui.press("R")
        assert ui.requests == [
            Request("hold", (first,)),
            Request("priority", (first,), change=1),
            Request("priority", (first,), change=-1),
            Request("release", (table.item.view.trial.id,)),
        ]
        assert "nothing to retry" in ui.text()
        ui.requests.clear()
        await ui.press("D")
        await ui.press("S", "right", "enter")
        assert ui.requests == [Request("drain", device="cuda:0"), Request("stop")]

    ui.play(story)


def test_failures_are_listed_and_retried() -> None:
    ui = Harness(made.failed())

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.press("F")
        assert [item.view.state for item in ui.table("trials").rows] == ["failed", "cancelled"]
        assert all(item.view.kind == "stage_failed" for item in ui.table("events").rows)
        await ui.press("R")
        assert ui.requests == [Request("retry", (ui.table("trials").item.view.trial.id,))]

    ui.play(story)


def test_a_refused_request_says_why() -> None:
    ui = Harness(made.busy())
    ui.app.send_request = lambda request: Answer(
        False, "no [b]scheduler[/b] is running", by="nobody"
    )

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.press("h")
        assert "no [b]scheduler[/b] is running" in ui.text()

    ui.play(story)


def test_readonly_has_no_keys_that_change_a_run() -> None:
    ui = Harness(made.busy(), readonly=True)

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.press("c", "h", "R", "plus", "minus", "D", "S")
        assert not isinstance(ui.app.screen, Confirm)
        assert ui.requests == []
        assert not {key.description for key in ui.footer()} & {"Cancel", "Hold", "Retry"}
        assert "read only" in ui.text()
        await ui.press("question_mark")
        ids = {key.key for key in ui.app.screen.query_one("#help-keys").items}  # type: ignore[attr-defined]
        assert not ids & {
            "trial.cancel",
            "trial.hold",
            "trial.retry",
            "app.stop",
            "dashboard.drain",
        }
        ui.app.send(Request("stop"))
        await ui.settle()
        assert ui.requests == []

    ui.play(story)


# help, commands, copying


def test_help_filters_as_one_types() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.press("question_mark")
        assert isinstance(ui.app.screen, Help)
        listed: Any = ui.app.screen.query_one("#help-keys")
        assert {"trial.cancel", "app.stop", "view.filter", "app.theme"} <= {
            key.key for key in listed.items
        }
        await ui.press(*"retry")
        assert [key.key for key in listed.rows] == ["trial.retry"]
        await ui.press("escape")
        assert not isinstance(ui.app.screen, Help)

    ui.play(story)


def test_every_key_has_a_name_in_the_palette() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        commands = list(ui.app.get_system_commands(ui.app.screen))
        titles = [command.title for command in commands]
        assert len(titles) == len(set(titles))
        for words in ("Cancel the trial", "Stop the run", "Filter", "Rows with all words", "Drain"):
            assert any(words in title for title in titles) or words == "Filter", words
        chosen = next(
            command for command in commands if "Pause" in command.title or "Freeze" in command.title
        )
        chosen.callback()
        await ui.settle()
        assert ui.app.paused

    ui.play(story)


def test_copying_goes_to_the_clipboard_and_says_so() -> None:
    ui = Harness(made.left())

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.press("y", "enter")
        assert ui.app.clipboard == ui.table("trials").item.view.trial.id
        assert "Copied trial" in ui.text()
        names = [name for name, _ in ui.view.copies()]
        assert "row as TSV" in names
        assert "table as Markdown" in names
        table = dict(ui.view.copies())["table as TSV"]
        assert len(table.splitlines()) == 10
        await ui.press("y", "up", "enter")
        assert ui.app.to_print == [ui.table("trials").item.view.trial.id]

    ui.play(story)


# sizes


@pytest.mark.parametrize("size", [(79, 24), (80, 19), (20, 5)])
def test_a_small_window_is_told_politely(size: tuple[int, int]) -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        assert "too small" in ui.text().replace("\n", " ") or size == (20, 5)
        assert "Devices" not in ui.text()
        await ui.pilot.resize_terminal(120, 40)
        await ui.settle()
        assert "Devices" in ui.text()

    ui.play(story, size)


@pytest.mark.parametrize("state", STATES)
def test_every_footer_fits(state: str) -> None:
    ui = Harness(STATES[state]())

    async def story(ui: Harness) -> None:
        async def check() -> None:
            keys = ui.footer()
            assert 2 <= len(keys) <= MOST_KEYS
            assert keys[-1].region.right <= 80, [key.description for key in keys]

        await check()
        for key in ("2", "3", "escape"):
            await ui.press(key)
            await check()
        ui.app.action_view("Dashboard")
        await ui.settle()
        await ui.open_trial(LR0.trial.id)
        await check()

    ui.play(story, (80, 24))


def test_a_narrow_screen_shows_the_lower_panels_one_at_a_time() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.settle()
        assert "Queue" in ui.text()
        await ui.press("tab")
        assert "Events" in ui.text()
        assert "Queue" not in ui.text()
        await ui.press("tab")
        assert "Coverage" in ui.text()
        await ui.press("shift+tab", "shift+tab")
        assert "Queue" in ui.text()

    ui.play(story, (80, 24))


# moving


def test_a_trial_opens_with_the_list_it_comes_from() -> None:
    ui = Harness(made.left())

    async def story(ui: Harness) -> None:
        ui.table("trials").focus()
        await ui.press("down", "enter")
        assert isinstance(ui.app.screen, TrialScreen)
        first = ui.app.screen.trial
        await ui.press("right_square_bracket")
        assert ui.app.screen.trial != first
        await ui.press("left_square_bracket")
        assert ui.app.screen.trial == first
        text = ui.text()
        assert "conv1" in text
        assert "epoch 4" in text
        await ui.press("v")
        assert {s.key for s in ui.table("config").rows} == {"strategy", "seed"}
        await ui.press("m")
        assert "test loss" in ui.text()
        await ui.press("escape")
        assert not isinstance(ui.app.screen, TrialScreen)

    ui.play(story)


def test_a_failed_trial_shows_its_traceback() -> None:
    ui = Harness(made.failed())

    async def story(ui: Harness) -> None:
        await ui.open_trial(made.trial("fine-tune", 1).trial.id)
        assert "torch.OutOfMemoryError" in ui.text()
        assert "out of memory on cuda:0" in ui.text()

    ui.play(story)


def test_the_modes_from_inside_a_trial() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.open_trial(LR0.trial.id)
        await ui.press("2")
        assert ui.view.NAME == "Leaderboard"
        await ui.press("1")
        assert ui.view.NAME == "Dashboard"

    ui.play(story)


def test_tabs_can_be_clicked() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.pilot.click(Header, offset=(28, 0))
        await ui.settle()
        assert ui.view.NAME == "Leaderboard"

    ui.play(story)


# the leaderboard


def test_what_validation_chose_opens_the_trials_that_it_picked() -> None:
    snapshot = made.busy()
    [first, second] = [v.trial.id for v in snapshot.trials if v.trial.strategy == "fine-tune"][:2]
    chosen = made.board_row(
        "tuned@abcdef", 1, 93.5, rank=1, cell="5e1ec7ed" * 2, selected=True, options=2,
        picks='{"fine-tune":1,"hot@123456":2}', mean_by_test=93.75, flattery=0.25, flattery_ci=0.5,
    )  # fmt: skip
    ui = Harness(snapshot, rows=[chosen, *made.board_rows()])
    ui.reader.seeds = lambda cell: (  # type: ignore[method-assign]
        SeedPoint(0, 93.0, None, True, "hot@123456", first),
        SeedPoint(1, 94.0, None, True, "fine-tune", second),
        SeedPoint(2, None, None, False),
    )

    async def story(ui: Harness) -> None:
        await ui.press("2", "down")
        text = ui.text()
        assert "tuned@abcdef @ 0.5" in text
        assert "0: 93.00 hot   1: 94.00 fine-tune   2: –" in text
        assert (
            "picked among 2: hot 2, fine-tune 1   by test 93.75: flattered by 0.25 ± 0.50 points"
            in text
        )
        await ui.press("enter")
        assert isinstance(ui.app.screen, TrialScreen)
        assert set(ui.app.screen.neighbours) == {first, second}

    ui.play(story)


def test_leaderboard_cells_are_those_of_the_report() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.press("2")
        text = ui.text()
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
        await ui.press("d")
        assert "Δ to own dense" in ui.text()
        await ui.press("right", "down")
        assert "weight-rewind @ 0.75" in ui.text()
        await ui.press("x")
        assert "● weight-rewind" in ui.text()
        await ui.press("enter")
        assert isinstance(ui.app.screen, TrialScreen)
        assert ui.app.screen.neighbours == [
            made.trial("weight-rewind", seed).trial.id for seed in range(3)
        ]

    ui.play(story)


def test_a_plans_claims_are_shown_with_their_verdicts() -> None:
    ui = Harness(made.busy())
    scores = {"lr-rewind": (92.0, 92.1, 91.9), "fine-tune": (91.0, 91.2, 91.0)}
    samples = [
        Sample(
            *(
                network,
                "cifar10",
                "unstructured",
                "one-shot",
                "one-shot",
                None,
                strategy,
                0.5,
                10.0,
            ),
            *(3, 91.0, None, None, 93.0),
            label="study",
            level=0.5,
            seeds={seed: Seed(score, 93.0, False) for seed, score in enumerate(values)},
        )
        for network in ("resnet-20", "resnet-56")
        for strategy, values in scores.items()
    ]
    said = Claim("lr-rewind", "fine-tune", "better", text="[b]rewinding wins[/b]")
    other = Claim("fine-tune", "lr-rewind", "better")
    judged = [PlanClaim("study", each, judge(each, samples), 1.0) for each in (said, other)]
    ui.reader.claims = (judged[0], replace(judged[1], plan="another"))

    async def story(ui: Harness) -> None:
        await ui.press("2")
        assert "claims: 1 supported" in ui.text()
        await ui.press("v")
        text = ui.text()
        assert "[b]rewinding wins[/b]" in text
        assert "supported: 2 conditions: 2 supported" in text
        assert "study · resnet-56 · cifar10 · one-shot: supported" in " ".join(text.split())
        assert "contradicted" not in text
        await ui.press("v")
        assert ui.view.NAME == "Leaderboard"
        ui.view.boards = Boards(ui.view.boards.boards)  # type: ignore[attr-defined]
        await ui.press("v")
        assert "This plan claims nothing: [[claims]]" in ui.text()

    ui.play(story)


# SQL


def test_sql_runs_tells_errors_and_keeps_its_history() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.press("3")
        assert "private copy" in ui.text()
        await ui.press("ctrl+j")
        assert "[b]bold[/b]" in ui.text()
        assert "2 rows" in ui.text()
        editor: Any = ui.view.query_one("#editor")
        editor.text = "-- :plan study\nSELECT wrong, $plan"
        await ui.press("f5")
        assert "Binder Error" in ui.text()
        assert ui.reader.made_replica.asked[-1][1] == {"plan": "study"}
        assert len(ui.view.history) == 2  # type: ignore[attr-defined]
        await ui.press("ctrl+o", *["down"] * 4, "enter")
        assert editor.has_focus
        assert "wrong" in editor.text
        await ui.press("escape", "1")
        assert ui.view.NAME == "Dashboard"

    ui.play(story)


def test_a_copy_that_failed_is_made_again_only_when_asked_for() -> None:
    ui = Harness(made.busy())
    asked: list[None] = []

    def fail() -> Any:
        asked.append(None)
        raise StoreError("no database")

    ui.reader.replica = fail  # type: ignore[method-assign]

    async def story(ui: Harness) -> None:
        await ui.press("3")
        await ui.change(made.left())
        assert "no scheduler since" in ui.text()
        assert "no database. ^r tries again" in ui.text()
        assert len(asked) == 1
        await ui.press("ctrl+r")
        assert len(asked) == 2

    ui.play(story)


def test_a_query_that_fails_by_the_disk_ends() -> None:
    ui = Harness(made.busy())

    def fail(*asked: Any) -> Any:
        raise OSError("disk full")

    ui.reader.made_replica.run = fail  # type: ignore[method-assign]

    async def story(ui: Harness) -> None:
        await ui.press("3", "ctrl+j")
        assert "disk full" in ui.text()
        assert not ui.view.running  # type: ignore[attr-defined]

    ui.play(story)


# what must not break it


def spoiled() -> Snapshot:
    """Numbers that are none, texts that are hostile, and labels that are missing."""
    snapshot = made.busy()
    bad = replace(
        snapshot.running[0], loss=made.NAN, score=float("inf"), eta=made.NAN, steps=0,
        scores=(made.NAN, None, float("-inf")), labels={}, trials=(), sparsity="0",
        epoch=Epoch(score=made.NAN),
    )  # fmt: skip
    bare = msgspec.structs.replace(snapshot.trials[3].trial, **dict.fromkeys(LABELS, ""))
    view = replace(
        snapshot.trials[3], trial=bare, reason="[red]no[/red]\x1b[31m\nline", steps=0, eta=made.NAN
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
    ui = Harness(spoiled())

    async def story(ui: Harness) -> None:
        await ui.press("F")
        await ui.press("F")
        text = ui.text()
        assert "[red]no[/red]" in text or size[0] == 80
        assert "\x1b" not in text
        for _ in range(16):
            ui.table("trials").shift_sort(1)
        await ui.settle()
        await ui.press("2", "3", "escape", "1")
        await ui.open_trial(spoiled().trials[3].trial.id)
        await ui.press("m", "m", "m", "v", "f", "tab")

    ui.play(story, size)


def test_a_store_that_cannot_be_read_is_told() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        def poll() -> Snapshot | None:
            raise OSError("stale file handle")

        ui.source.poll = poll  # type: ignore[method-assign]
        ui.app.poller.poll_now()
        await ui.pilot.pause(0.2)
        assert "cannot read the store" in ui.text()
        assert len(ui.table("running").rows) == 2

    ui.play(story)


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
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.open_trial(LR0.trial.id)
        for theme in ("dracula", "ansi-light", "textual-light"):
            ui.app.theme = theme
            await ui.pilot.pause()
        await ui.press("2")
        for theme in ("ansi-dark", "textual-dark"):
            ui.app.theme = theme
            await ui.pilot.pause()
        assert "METHOD" in ui.text()

    ui.play(story)


def test_the_end_of_the_run_is_told() -> None:
    ui = Harness(made.busy())

    async def story(ui: Harness) -> None:
        await ui.change(made.left())
        assert "The scheduler has ended: 8/9 done" in ui.text()

    ui.play(story)


def test_the_first_screen_does_not_wait_for_the_database_or_plots() -> None:
    code = (
        "import sys, prunectl.tui.app\n"
        "print(sorted({'duckdb', 'torch', 'numpy', 'scipy', 'plotext', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_trial_that_waits_for_a_replay_shows_what_the_replay_does() -> None:
    snapshot = made.busy()
    view = next(v for v in snapshot.trials if v.trial.id == LR0.trial.id)
    waiting = replace(view, reason="replay of 0000dddd to step 4")
    trials = tuple(waiting if v is view else v for v in snapshot.trials)
    replay = made.running(waiting, key="4e91a7" + "0" * 58, replay=True, step=250, steps=1000)
    ui = Harness(replace(snapshot, trials=trials, running=(*snapshot.running, replay)))

    async def story(ui: Harness) -> None:
        await ui.open_trial(LR0.trial.id)
        shown = ui.text()
        assert "replay of 0000dddd to step 4 (250/1k)" in shown
        assert "replay: epoch 4  accuracy" in shown
        assert "Curve: test accuracy" in shown
        epochs = ui.view.detail.epochs  # type: ignore[attr-defined]
        await ui.change(replace(snapshot, trials=trials))
        assert "replay: epoch 4  accuracy" in ui.text()
        assert ui.view.detail.epochs == epochs  # type: ignore[attr-defined]

    ui.play(story)


def test_where_nothing_waits_failures_are_one_key_away() -> None:
    ui = Harness(replace(made.failed(), queue=()))

    async def story(ui: Harness) -> None:
        assert "All trials" in ui.text()
        await ui.press("F")
        assert "Failed, blocked and cancelled 2" in ui.text()
        await ui.press("F")
        assert "All trials" in ui.text()

    ui.play(story)
