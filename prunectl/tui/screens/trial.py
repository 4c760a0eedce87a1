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
from textual.widgets import Static

from prunectl.monitor.snapshot import RunningView, Snapshot, TrialView
from prunectl.spec.state import State
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.keymap import hint
from prunectl.tui.rows.running import trouble
from prunectl.tui.rows.study import IDENTIFIER, iteration_text, method
from prunectl.tui.rows.trials import failure_of
from prunectl.tui.screens.base import TRIAL_KEYS, View
from prunectl.tui.trial_detail import Detail, Layer, LogLine, Setting, curve_value
from prunectl.tui.widgets.curve import Curve, Picture, Series
from prunectl.tui.widgets.header import Header
from prunectl.tui.widgets.table import KeyedTable


def _value(setting: Setting) -> Cell:
    return Cell(f"{setting.value}  ← plan", "accent") if setting.varied else Cell(setting.value)


SETTINGS: tuple[Column[Setting], ...] = (
    Column("name", "SETTING", 18, lambda s: Cell(s.key, "" if s.varied else "dim")),
    Column("value", "VALUE", 14, _value, flex=True),
)
LAYERS: tuple[Column[Layer], ...] = (
    Column("name", "LAYER", 12, lambda x: Cell(x.key), flex=True),
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
UPPER = ("curve", "config", "layers")
"""Panels that a narrow screen shows one at a time, over the log."""


class TrialScreen(View):
    """Below the three views."""

    NAME = "Trial"
    PRIMARY = "log"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket", "step(1)", "Next", key_display="]", id="trial.next",
                tooltip="Next trial of the list"),
        Binding("left_square_bracket", "step(-1)", "Trial before", show=False, key_display="[", id="trial.before"),
        Binding("tab", "panel(1)", "Panel", id="trial.panel", tooltip="Next panel"),
        Binding("shift+tab", "panel(-1)", "Panel before", show=False, id="trial.panel-before"),
        Binding("m", "metric", "Metric", id="trial.metric", tooltip="Score, loss, training loss, rate, other metrics"),
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
        """`neighbours` is the list that the trial was opened from."""
        super().__init__()
        self.trial = trial
        self.neighbours = list(neighbours)
        self.detail = Detail()
        self.drawn = 0
        """Which of `Detail.curves` is drawn."""
        self.follow = True
        """Keep the end of the log in sight."""
        self.only_varied = False
        self.upper = "curve"
        """The panel that a narrow screen has on top."""
        self._read_for: object = None
        """What the logs were last read for."""
        self._replay: str | None = None
        """The stage that trains the dense network again for this trial, where one was seen."""
        self._logs: Any = None

    def crumb(self) -> str:
        return f"▸ trial {self.trial[:IDENTIFIER]}"

    def content(self) -> ComposeResult:
        yield Static("", id="summary")
        with Horizontal(id="upper"):
            yield Curve(self.viewer.plain_curves)
            yield KeyedTable(SETTINGS, id="config", title="Config", empty="Reading …")
        with Horizontal(id="lower"):
            yield KeyedTable(LAYERS, id="layers", title="Layers", empty="Nothing is pruned yet.")
            yield KeyedTable(LOG, id="log", title="Log", header=False,
                             empty="The trial has not started.")  # fmt: skip

    def on_mount(self) -> None:
        """Focus the log."""
        self._logs = self.viewer.reader.logs()
        self.panel("log").focus()

    # showing

    def chosen_trials(self) -> list[TrialView]:
        view = self.viewer.trial_list.trial(self.trial)
        return [] if view is None else [view]

    def show(self, snapshot: Snapshot) -> None:
        view = self.viewer.trial_list.trial(self.trial)
        if view is None:
            gone = "This trial is in no plan of the store any more."
            self.panel("log").empty = f"{gone} {hint('view.back', 'esc')}: back"
        else:
            stage = _at_work(snapshot, view)
            if stage is not None and stage.replay:
                self._replay = stage.key
            epoch = stage.epoch if stage is not None else None
            seen = (view, epoch.seq if epoch is not None else None)
            if seen != self._read_for:
                self._read_for = seen
                self._read(view)
        self._summarise()

    def _read(self, view: TrialView) -> None:
        study, logs, replay = self.viewer.study, self._logs, self._replay
        varied = ("strategy", *study.varied, *study.places)

        def show(detail: Detail) -> None:
            if view.trial.id == self.trial:
                self.detail = detail
                self._fill()

        def failed(trouble: str) -> None:
            self._read_for = None  # the next snapshot tries again

        self.read(lambda: logs.detail(view, varied, replay), show, failed, group="detail")

    def _fill(self) -> None:
        detail = self.detail
        config, varied = self.panel("config"), hint("trial.varied", "v")
        config.apply(s for s in detail.settings if s.varied or not self.only_varied)
        config.describe("Config", f"{varied}: {'all' if self.only_varied else 'only what varies'}")
        layers = self.panel("layers")
        layers.apply(detail.layers)
        layers.describe("Layers", _kept(detail.layers))
        self._fill_log()
        self._draw()
        self._summarise()

    def _fill_log(self) -> None:
        lines = list(self.detail.log)
        failure = failure_of(self.snapshot, self.trial) if self.snapshot else None
        if failure is not None:
            said = failure.traceback or failure.log or failure.message
            for number, text in enumerate(said.splitlines()):
                lines.append(LogLine(f"failure/{number}", failure.time, text, "bad"))
        log = self.panel("log")
        # A reader who has moved up in the log is not taken to its end.
        at_end = log.cursor >= len(log.rows) - 1
        log.apply(lines)
        follow, search = hint("trial.follow", "f"), hint("view.filter", "/")
        note = f"{follow} follow · {search} search · {hint('trial.pager', 'o')} pager"
        log.describe("Log following" if self.follow else "Log", note)
        if self.follow and (at_end or not log.has_focus):
            log.call_after_refresh(log.action_edge, 1)

    def _draw(self) -> None:
        detail = self.detail
        epochs, prunings, metric = detail.epochs, detail.prunings, detail.metric
        curves = list(detail.curves.items())
        field, name = curves[self.drawn % len(curves)]
        values = tuple(curve_value(record, field) for _, record in epochs)
        series = Series(name, tuple(step for step, _ in epochs), values)
        pruned = tuple((p.x, t.sparsity(p.sparsity)) for p in prunings)
        ticks = _spaced([(0.0, "dense"), *pruned], max(20, self.size.width // 2))
        picture = Picture((series,), pruned, ticks, "No epoch is done yet.")
        note = "steps, named by the sparsity each iteration prunes to"
        if prunings:
            last = prunings[-1]
            went = "fell" if metric.higher_is_better else "rose"
            note = f"pruned to {t.sparsity(last.sparsity)}: {went} to {t.number(last.score, metric.digits)}"
        title = f"Curve: {name}  ({hint('trial.metric', 'm')}: another)"
        self.query_one(Curve).draw(picture, title, note)

    def _summarise(self) -> None:
        line = self.query_one("#summary", Static)
        chosen = self.chosen_trials()
        if chosen:
            gap = "   " if self.has_class("-wide") else "  "
            line.update(Content(" " + gap.join(self._summary(chosen[0]))))
        else:
            line.update(Content(f" trial {self.trial} is not in the store"))

    def _summary(self, view: TrialView) -> list[str]:
        share = t.share(view.steps_done, view.steps)
        bar = f"{t.boxed(share, 12)} " if self.has_class("-wide") else ""
        last, dense, digits = self.detail.last, self.detail.dense, self.detail.metric.digits
        change = None if last is None or dense is None else last - dense
        parts = [
            self._state(view),
            f"{method(view.trial.labels, self.viewer.study)} seed {view.trial.seeds}",
            iteration_text(view.iteration, len(view.trial.path) - 1),
            f"{bar}{100 * share:.0f} %",
            f"test {t.number(last, digits)}",
            f"Δ dense {t.signed(change, digits)}",
        ]
        if view.eta is not None:
            parts.append(f"ETA {t.minutes(view.eta, self.viewer.clock())}")
        return parts

    def _state(self, view: TrialView) -> str:
        """Return the state in words, and the key that helps."""
        stage = _at_work(self.snapshot, view) if self.snapshot else None
        if stage is not None and (wrong := trouble(stage)):
            return f"! {wrong} ({hint('trial.cancel', 'c')}: cancel)"
        glyph, _ = t.STATES.get(view.state, ("?", ""))
        text = f"{glyph} {view.reason or view.state}"
        if stage is not None and stage.replay:
            text += f" ({t.short(stage.step)}/{t.short(stage.steps)})"
        if view.state in (State.FAILED, State.CANCELLED):
            text += f" ({hint('trial.retry', 'R')}: retry)"
        if view.state is State.HELD:
            text += f" ({hint('trial.hold', 'h')}: release)"
        return text

    # panels

    def resized(self) -> None:
        for name in UPPER:
            self.query_one(f"#{name}").set_class(name != self.upper, "-hidden")
        self.query_one("#upper").set_class(self.upper == "layers", "-hidden")

    def action_panel(self, step: int) -> None:
        """Go to another panel; a narrow screen shows one of them over the log."""
        name = self.panel_after((*UPPER, "log"), step, "log")
        if name in UPPER:
            self.upper = name
            self.resized()
        self.query_one(f"#{name}").focus()

    # keys

    def action_step(self, step: int) -> None:
        """Show another trial of the list this one was opened from."""
        at = self.neighbours.index(self.trial) if self.trial in self.neighbours else 0
        if len(self.neighbours) < 2:
            self.notify("There is only this trial in the list.", severity="information")
            return
        self.trial = self.neighbours[(at + step) % len(self.neighbours)]
        self.detail, self._read_for, self._replay = Detail(), None, None
        self.query_one(Header).crumb = self.crumb()
        self._fill()
        if self.snapshot is not None:
            self.show(self.snapshot)
        self.tick()

    def action_metric(self) -> None:
        """Draw another number."""
        self.drawn = (self.drawn + 1) % len(self.detail.curves)
        self._draw()

    def action_follow(self) -> None:
        """Keep the end of the log in sight, or not."""
        self.follow = not self.follow
        self._fill_log()

    def action_varied(self) -> None:
        """Show only the settings that the plan varies, or all."""
        self.only_varied = not self.only_varied
        self._fill()

    def action_pager(self) -> None:
        """Show the stage's log in the user's pager."""
        for view in self.chosen_trials():
            path = self.viewer.paths.stage(view.trial.path[view.iteration]).events
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
        self.app.pop_screen()


def _kept(layers: Sequence[Layer]) -> str:
    kept, total = sum(x.kept for x in layers), sum(x.total for x in layers)
    dead = sum(1 for x in layers if not x.kept)
    note = f"{kept:,} of {total:,} kept, {100 * kept / total:.1f} %" if total else ""
    return note + (f" · {t.plural(dead, 'dead layer')}" if dead else "")


def _spaced(ticks: Sequence[tuple[float, str]], width: int) -> tuple[tuple[float, str], ...]:
    """Return those of the names that do not run into one another on a line of `width` columns."""
    span = max(x for x, _ in ticks) or 1.0
    out: list[tuple[float, str]] = []
    for x, name in ticks:
        if not out or (x - out[-1][0]) / span * width > len(out[-1][1]) + 2:
            out.append((x, name))
    return tuple(out)


def _at_work(snapshot: Snapshot, view: TrialView) -> RunningView | None:
    """Return the stage of the trial that runs now, or the replay that it waits for."""
    for stage in snapshot.running:
        if stage.key in view.trial.path or (stage.replay and view.trial.id in stage.trials):
            return stage
    return None
