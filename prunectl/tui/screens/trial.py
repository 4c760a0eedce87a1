"""One trial: its curve over all iterations, its settings, its layers and its log."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from prunectl.errors import PrunectlError
from prunectl.monitor.snapshot import RunningView, Snapshot, TrialView
from prunectl.store.paths import StorePaths
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.keymap import hint
from prunectl.tui.rows.running import trouble
from prunectl.tui.rows.study import IDENTIFIER, method
from prunectl.tui.rows.trials import failure_of
from prunectl.tui.screens.base import TRIAL_KEYS, View
from prunectl.tui.trial_detail import Detail, Layer, LogLine, Setting
from prunectl.tui.widgets.curve import Curve, Picture, Series
from prunectl.tui.widgets.table import KeyedTable

SETTINGS: tuple[Column[Setting], ...] = (
    Column("name", "SETTING", 18, lambda s: Cell(s.name, "" if s.varied else "dim")),
    Column("value", "VALUE", 14, lambda s: _value(s), flex=True),
)
LAYERS: tuple[Column[Layer], ...] = (
    Column("name", "LAYER", 12, lambda x: Cell(x.name), flex=True),
    Column("kept", "KEPT", 9, lambda x: Cell(f"{x.kept:,}"), right=True, order=lambda x: x.kept),
    Column("total", "TOTAL", 9, lambda x: Cell(f"{x.total:,}"), right=True, rank=2, order=lambda x: x.total),
    Column("bar", "DENSITY", 10, lambda x: Cell(t.bar(x.density, 10), "accent"), rank=1,
           order=lambda x: x.density),
    Column("density", "%", 5, lambda x: Cell(f"{100 * x.density:.1f}", "" if x.kept else "bad"), right=True,
           order=lambda x: x.density),
)  # fmt: skip
LOG: tuple[Column[LogLine], ...] = (
    Column("time", "TIME", 8, lambda x: Cell(t.clock(x.time), "dim")),
    Column("text", "WHAT", 20, lambda x: Cell(x.text, x.style), flex=True),
)


def _value(setting: Setting) -> Cell:
    return Cell(f"{setting.value}  ← plan", "accent") if setting.varied else Cell(setting.value)


METRICS = ("accuracy", "loss", "train_loss", "lr")
PANELS = ("curve", "config", "layers", "log")


class DetailRead(Message):
    """What the trial's logs say."""

    def __init__(self, trial: str, detail: Detail) -> None:
        super().__init__()
        self.trial = trial
        self.detail = detail


class TrialScreen(View):
    """Below the three views."""

    NAME = "Trial"
    FOOTER = ("trial.next", "trial.panel", "trial.metric", "trial.cancel", "trial.retry", "view.copy", "app.help",
              "view.back")  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket", "step(1)", "Next", key_display="]", id="trial.next",
                tooltip="Next trial of the list"),
        Binding("left_square_bracket", "step(-1)", "Trial before", show=False, key_display="[", id="trial.before"),
        Binding("tab", "panel(1)", "Panel", id="trial.panel", tooltip="Next panel"),
        Binding("shift+tab", "panel(-1)", "Panel before", show=False, id="trial.panel-before"),
        Binding("m", "metric", "Metric", id="trial.metric", tooltip="Accuracy, loss, training loss or rate"),
        *TRIAL_KEYS,
        Binding("f", "follow", "Follow the log", show=False, id="trial.follow"),
        Binding("v", "varied", "Only what the plan varies", show=False, id="trial.varied"),
        Binding("o", "pager", "Log in $PAGER", show=False, id="trial.pager"),
        Binding("slash", "filter", "Filter", show=False, key_display="/", id="view.filter"),
        Binding("escape", "back", "Back", key_display="esc", id="view.back"),
        Binding("q,ctrl+q,ctrl+c", "app.leave", "Quit", show=False, key_display="q", id="app.quit",
                tooltip="Leave; a run goes on"),
    ]  # fmt: skip

    def __init__(self, trial: str, neighbours: Sequence[str]) -> None:
        super().__init__()
        self.trial = trial
        self.neighbours = list(neighbours)
        self.detail = Detail()
        self.metric = "accuracy"
        self.follow = True
        self.only_varied = False
        self.upper = "curve"
        """The panel that a narrow screen has on top."""
        self._read_for: object = None
        self._replay: str | None = None
        """The stage that trains the dense network again for this trial, where one was seen."""
        self._logs: Any = None

    def crumb(self) -> str:
        return f"▸ trial {self.trial[:IDENTIFIER]}"

    def content(self) -> ComposeResult:
        config: KeyedTable[Setting] = KeyedTable(
            SETTINGS, lambda s: s.name, called="config", title="Config"
        )
        layers: KeyedTable[Layer] = KeyedTable(
            LAYERS, lambda x: x.name, called="layers", title="Layers"
        )
        log: KeyedTable[LogLine] = KeyedTable(
            LOG, lambda x: x.key, called="log", title="Log", header=False
        )
        config.empty = "Reading …"
        layers.empty = "Nothing is pruned yet."
        log.empty = "The trial has not started."
        yield Static("", id="summary")
        with Horizontal(id="upper"):
            yield Curve("curve")
            yield config
        with Horizontal(id="lower"):
            yield layers
            yield log

    def on_mount(self) -> None:
        """The log has the focus."""
        self._logs = self.viewer.reader.logs()
        self._choose_panels()
        self.panel("log").focus()

    def on_screen_resume(self) -> None:
        """Show what is known."""
        self.viewer.refresh_view(self)

    def panel(self, name: str) -> KeyedTable[Any]:
        """A table by its name."""
        return self.query_one(f"#{name}", KeyedTable)

    def primary(self) -> KeyedTable[Any]:
        return self.panel("log")

    # showing

    @property
    def shown_trial(self) -> TrialView | None:
        """The trial as the snapshot has it."""
        return self.viewer.trial_list.trial(self.trial)

    def chosen_trials(self) -> list[TrialView]:
        view = self.shown_trial
        return [] if view is None else [view]

    def show(self, snapshot: Snapshot) -> None:
        view = self.shown_trial
        if view is None:
            back = hint("view.back", "esc")
            gone = "This trial is in no plan of the store any more."
            self.panel("log").empty = f"{gone} {back}: back"
            self._summarise(None)
            return
        running = _at_work(snapshot, view)
        if running is not None and running.replay:
            self._replay = running.key
        seen = (
            view,
            None if running is None else (running.epoch or {}).get("seq"),
            self.only_varied,
        )
        if seen != self._read_for:
            self._read_for = seen
            self._read(view)
        self._summarise(snapshot)

    def _read(self, view: TrialView) -> None:
        study = self.viewer.study
        varied = ("strategy", *study.varied, *study.places)
        logs, replay = self._logs, self._replay

        def work() -> None:
            try:
                self.post_message(DetailRead(view.trial, logs.detail(view, varied, replay)))
            except (PrunectlError, OSError):
                return  # read again with the next snapshot

        self.run_worker(work, thread=True, group="detail", exit_on_error=False)

    def on_detail_read(self, message: DetailRead) -> None:
        """Fill the panels."""
        if message.trial != self.trial:
            return
        self.detail = message.detail
        self._fill()

    def _fill(self) -> None:
        detail = self.detail
        chosen = [s for s in detail.settings if s.varied or not self.only_varied]
        self.panel("config").apply(chosen)
        key = hint("trial.varied", "v")
        self.panel("config").describe(
            "Config", f"{key}: all" if self.only_varied else f"{key}: only what varies"
        )
        layers = self.panel("layers")
        layers.apply(detail.layers)
        kept, total = sum(x.kept for x in detail.layers), sum(x.total for x in detail.layers)
        dead = sum(1 for x in detail.layers if not x.kept)
        note = f"{kept:,} of {total:,} kept, {100 * kept / total:.1f} %" if total else ""
        layers.describe("Layers", note + (f" · {t.plural(dead, 'dead layer')}" if dead else ""))
        self._fill_log()
        self._draw()
        self._summarise(self.snapshot)

    def _fill_log(self) -> None:
        log = self.panel("log")
        lines = list(self.detail.log)
        snapshot = self.snapshot
        failure = failure_of(snapshot, self.trial) if snapshot else None
        if failure is not None:
            said = failure.traceback or failure.log or failure.message
            lines += [
                LogLine(f"failure/{n}", failure.time, text, "bad")
                for n, text in enumerate(said.splitlines())
            ]
        follow, search = hint("trial.follow", "f"), hint("view.filter", "/")
        note = f"{follow} follow · {search} search · {hint('trial.pager', 'o')} pager"
        at_end = log.cursor >= len(log.rows) - 1
        log.apply(lines)
        log.describe(
            "Log" + (" following" if self.follow else ""),
            note,
        )
        if self.follow and (at_end or not log.has_focus):
            log.call_after_refresh(log.move_to, len(log.rows) - 1)

    def _draw(self) -> None:
        points = self.detail.points
        values = tuple(getattr(point, self.metric) for point in points)
        name = {
            "accuracy": "test accuracy %",
            "loss": "test loss",
            "train_loss": "training loss",
            "lr": "rate",
        }
        series = Series(name[self.metric], tuple(point.x for point in points), values)
        pruned = [(p.x, t.sparsity(p.sparsity)) for p in self.detail.prunings]
        ticks = tuple(_spaced([(0.0, "dense"), *pruned], max(20, self.size.width // 2)))
        picture = Picture((series,), tuple(pruned), ticks, "No epoch is done yet.")
        last = self.detail.prunings[-1] if self.detail.prunings else None
        note = "steps, named by the sparsity each iteration prunes to"
        if last is not None:
            note = f"pruned to {t.sparsity(last.sparsity)}: fell to {t.number(last.accuracy)}"
        self.query_one("#curve", Curve).draw(
            picture, f"Curve: {name[self.metric]}  ({hint('trial.metric', 'm')}: another)", note
        )

    def _summarise(self, snapshot: Snapshot | None) -> None:
        view = self.shown_trial
        line = self.query_one("#summary", Static)
        if view is None:
            line.update(Content(f" trial {self.trial} is not in the store"))
            return
        share = view.steps_done / view.steps if view.steps else 0.0
        last = self.detail.points[-1].accuracy if self.detail.points else None
        change = None if last is None or self.detail.dense is None else last - self.detail.dense
        where = f"it {view.iteration}/{len(view.path) - 1}" if view.iteration else "dense"
        name = f"{method(view.labels, self.viewer.study)} seed {view.seed}"
        parts = [
            self._state(view, snapshot),
            name,
            where,
            f"{t.boxed(share, 12)} {100 * share:.0f} %"
            if self.has_class("-wide")
            else f"{100 * share:.0f} %",
            f"test {t.number(last)}",
            f"Δ dense {t.signed(change)}",
        ]
        if view.eta is not None:
            parts.append(f"ETA {t.minutes(view.eta, self.viewer.clock())}")
        line.update(Content(" " + ("   " if self.has_class("-wide") else "  ").join(parts)))

    def _state(self, view: TrialView, snapshot: Snapshot | None) -> str:
        """The state in words, and the key that helps."""
        stage = _at_work(snapshot, view) if snapshot else None
        wrong = trouble(stage) if stage else ""
        if wrong:
            return f"! {wrong} ({hint('trial.cancel', 'c')}: cancel)"
        text = f"{t.GLYPHS.get(view.state, '?')} {view.reason or view.state}"
        if stage is not None and stage.replay:
            text += f" ({t.short(stage.step)}/{t.short(stage.steps)})"
        again = f" ({hint('trial.retry', 'R')}: retry)"
        keys = {
            "failed": again,
            "cancelled": again,
            "held": f" ({hint('trial.hold', 'h')}: release)",
        }
        return text + keys.get(view.state, "")

    # panels

    def resized(self) -> None:
        self._choose_panels()

    def _choose_panels(self) -> None:
        for name in ("curve", "config", "layers"):
            self.query_one(f"#{name}").set_class(name != self.upper, "-hidden")
        self.query_one("#upper").set_class(self.upper == "layers", "-hidden")

    def action_panel(self, step: int) -> None:
        """Go to another panel; a narrow screen shows one of them over the log."""
        panels = [self.query_one(f"#{name}") for name in PANELS]
        at = panels.index(self.focused) if self.focused in panels else 3
        chosen = panels[(at + step) % len(panels)]
        if chosen.id != "log":
            self.upper = str(chosen.id)
            self._choose_panels()
        chosen.focus()

    # keys

    def action_step(self, step: int) -> None:
        """Another trial of the list this one was opened from."""
        at = self.neighbours.index(self.trial) if self.trial in self.neighbours else 0
        count = len(self.neighbours)
        if count < 2:
            self.notify("There is only this trial in the list.", severity="information")
            return
        self.trial = self.neighbours[(at + step) % count]
        self.detail, self._read_for, self._replay = Detail(), None, None
        from prunectl.tui.widgets.header import Masthead

        self.query_one(Masthead).crumb = self.crumb()
        self._fill()
        if self.snapshot is not None:
            self.show(self.snapshot)
        self.tick()

    def action_metric(self) -> None:
        """Draw another number."""
        self.metric = METRICS[(METRICS.index(self.metric) + 1) % len(METRICS)]
        self._draw()

    def action_follow(self) -> None:
        """Stay at the end of the log, or not."""
        self.follow = not self.follow
        self._fill_log()

    def action_varied(self) -> None:
        """Only the settings that the plan varies, or all."""
        self.only_varied = not self.only_varied
        self._fill()

    def action_pager(self) -> None:
        """The stage's log in the user's pager."""
        view = self.shown_trial
        if view is None:
            return
        path = StorePaths(self.viewer.paths.root).stage(view.path[view.iteration]).events
        if not path.exists():
            self.notify("This stage has no log yet.", severity="warning")
            return
        command = [*shlex.split(os.environ.get("PAGER") or "less"), str(path)]
        try:
            with self.app.suspend():
                subprocess.run(command, check=False)
        except Exception as error:  # no such pager, or a terminal that cannot be handed over
            self.notify(f"{command[0]}: {error}", severity="error", markup=False)

    def go_back(self) -> None:
        self.viewer.pop_screen()


def _spaced(ticks: Sequence[tuple[float, str]], width: int) -> list[tuple[float, str]]:
    """Names that do not run into one another on a line of `width` columns."""
    if not ticks:
        return []
    span = max(x for x, _ in ticks) or 1.0
    out: list[tuple[float, str]] = []
    for x, name in ticks:
        if not out or (x - out[-1][0]) / span * width > len(out[-1][1]) + 2:
            out.append((x, name))
    return out


def _at_work(snapshot: Snapshot, view: TrialView) -> RunningView | None:
    """The stage of the trial that runs now, or the replay that it waits for."""
    for stage in snapshot.running:
        if stage.key in view.path or (stage.replay and view.trial in stage.trials):
            return stage
    return None
