"""What all views share: header, panels, filter, copying, exporting, requests, and a message for small windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from prunectl.errors import PrunectlError
from prunectl.monitor.snapshot import Snapshot, TrialView
from prunectl.spec.state import State
from prunectl.tui import status_lines as status
from prunectl.tui.keymap import hint
from prunectl.tui.requests import Request
from prunectl.tui.screens.dialogs import Choose, Confirm
from prunectl.tui.viewer import StoreApp
from prunectl.tui.widgets.header import Header
from prunectl.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from prunectl.store.db.query import Result

T = TypeVar("T")
SMALLEST = (80, 20)
WIDE = (100, 32)
"""Columns and lines from which the wide layout is used."""

Copies = list[tuple[str, str]]
"""What a copy menu offers: a name and the text."""

CHANGES = ("cancel", "hold", "retry", "prioritise", "drain", "stop_run")
"""Actions that a viewer which only reads does not have."""


class FilterBar(Input):
    """The line a filter is typed into."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.back", "Clear the filter", show=False, id="filter.clear")
    ]


class View(Screen[None]):
    """A screen that shows snapshots."""

    NAME: ClassVar[str] = ""
    PRIMARY: ClassVar[str] = ""
    """Id of the table that keys mean where none has the focus."""
    # Each view focuses a panel of its own when it is mounted; Textual would take the first one.
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", show=False, key_display="⏎", id="view.open"),
        Binding("slash", "filter", "Filter", key_display="/", id="view.filter",
                tooltip="Rows with all words; !word leaves rows out"),
        Binding("escape", "back", "Clear the filter, or back", show=False, id="view.back"),
        Binding("comma", "sort(-1)", "Sort by the column before", show=False, key_display=",", id="view.sort-left"),
        Binding("full_stop", "sort(1)", "Sort by the next column", show=False, key_display=".", id="view.sort-right"),
        Binding("r", "reverse", "Reverse the order", show=False, id="view.reverse"),
        Binding("z", "zoom", "Zoom the panel", show=False, id="view.zoom"),
        Binding("y", "copy", "Copy", show=False, id="view.copy"),
        # Textual's screens take ctrl+c for copying selected text.
        Binding("ctrl+c", "app.leave", "Quit", show=False, id="view.quit", tooltip="Leave; a run goes on"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.snapshot: Snapshot | None = None
        """The one shown."""
        # A snapshot can come while the panels are being mounted: `ready` waits for the last of them.
        self._composed = False

    # parts

    def compose(self) -> ComposeResult:
        yield Header(self.NAME, self.crumb())
        with Container(id="body"):
            yield from self.content()
        words = "filter: words that rows must have, !word must not"
        yield FilterBar(placeholder=words, id="filter", compact=True)
        yield Footer(show_command_palette=False, compact=True)
        yield Static("", id="small")

    def content(self) -> ComposeResult:
        """Yield the panels of the view."""
        yield Static("")

    def crumb(self) -> str:
        """Say where one is, for a view below the three."""
        return ""

    @property
    def ready(self) -> bool:
        """Whether all its parts are there: neither before they are mounted nor while they are taken down."""
        return self._composed and bool(self.query(Header))

    @property
    def viewer(self) -> StoreApp:
        """The application."""
        return cast(StoreApp, self.app)

    # snapshots

    def catch_up(self) -> None:
        """Show the newest snapshot; while the viewer is paused, only where none is shown yet."""
        if self.ready and (self.snapshot is None or not self.viewer.paused):
            snapshot = self.viewer.current()
            if snapshot is not None and snapshot is not self.snapshot:
                self.snapshot = snapshot
                self.show(snapshot)
        self.tick()

    def show(self, snapshot: Snapshot) -> None:
        """Bring the panels up to date."""

    def tick(self) -> None:
        """Bring the header up to date, once a second and with every snapshot."""
        if not self.ready:
            return
        viewer, head = self.viewer, self.query_one(Header)
        latest, width = viewer.snapshot, head.size.width
        banner = "read only" if viewer.readonly else ""
        if viewer.paused:
            banner = f"PAUSED, {hint('app.pause', 'space')} goes on"
        line = status.status(latest, viewer.clock(), max(0, width - 2), viewer.trouble)
        head.show(status.context(latest, max(0, width - 60)), banner, line)

    def on_mount(self) -> None:
        """Show what is known. What a view does when it is mounted comes before this."""
        self._composed = True
        self._lay_out_for(self.size.width, self.size.height)
        self.catch_up()

    def on_screen_resume(self) -> None:
        """Show what came in while another view was in front."""
        self.catch_up()

    def read(
        self,
        work: Callable[[], T],
        then: Callable[[T], object],
        failed: Callable[[str], object] = lambda text: None,
        *,
        group: str,
        exclusive: bool = False,
    ) -> None:
        """Call `work` in a thread, then `then` with its result, or `failed` with the text of its error, in the event
        loop. `exclusive` gives up what is under way in the same group."""

        def run() -> None:
            try:
                found = work()
            except (PrunectlError, OSError) as error:
                self.call_later(failed, str(error))
            else:
                self.call_later(then, found)

        # exit_on_error: even an error that nobody thought of must not end a viewer.
        self.run_worker(run, thread=True, group=group, exclusive=exclusive, exit_on_error=False)

    # size

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout."""
        if self.ready:
            self._lay_out_for(*event.size)

    def _lay_out_for(self, width: int, height: int) -> None:
        small = width < SMALLEST[0] or height < SMALLEST[1]
        wide = width >= WIDE[0] and height >= WIDE[1]
        self.set_class(small, "-small")
        self.set_class(wide, "-wide")
        self.set_class(not wide, "-narrow")
        if small:
            self.query_one("#small", Static).update(
                f"{width}×{height} is too small for tables.\n"
                f"Please make the window {SMALLEST[0]}×{SMALLEST[1]} or larger.\n\n"
                f"{hint('app.quit', 'q')}: quit; a run goes on"
            )
        self.resized()
        self.call_after_refresh(self.tick)

    def resized(self) -> None:
        """Lay out anew; the classes -wide and -narrow are set."""

    # tables

    def panel(self, name: str) -> KeyedTable[Any]:
        """Return a table by its id."""
        return self.query_one(f"#{name}", KeyedTable)

    def table(self) -> KeyedTable[Any]:
        """Return the table that keys mean."""
        focused = self.focused
        return focused if isinstance(focused, KeyedTable) else self.panel(self.PRIMARY)

    def panel_after(self, names: Sequence[str], step: int, default: str) -> str:
        """Return the id of the panel `step` after the focused one, or after `default`."""
        focused = self.focused.id if self.focused is not None else None
        at = names.index(focused if focused in names else default)
        return names[(at + step) % len(names)]

    def action_open(self) -> None:
        """Open what is under the cursor, where there is something below it."""

    def on_keyed_table_opened(self) -> None:
        """Open the row under the cursor, which was clicked."""
        self.action_open()

    def action_filter(self) -> None:
        """Type a filter."""
        self._filtered = self.table()
        bar = self.query_one(FilterBar)
        bar.value = self._filtered.query_text
        self.add_class("-filtering")
        bar.focus()
        self.call_after_refresh(self._filtered.prepare_filter)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        if isinstance(event.input, FilterBar) and self.has_class("-filtering"):
            self._filtered.filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter and go back to the table."""
        if isinstance(event.input, FilterBar):
            self._close_filter()

    def _close_filter(self) -> None:
        self.remove_class("-filtering")
        self._filtered.focus()

    def action_back(self) -> None:
        """Clear what is typed, then the filter, then the zoom, then leave."""
        if self.has_class("-filtering"):
            self._filtered.filter("")
            self._close_filter()
        elif self.table().query_text:
            self.table().filter("")
        elif self.maximized is not None:
            self.minimize()
        else:
            self.go_back()

    def go_back(self) -> None:
        """Leave the view; the three do not."""

    def action_sort(self, step: int) -> None:
        """Sort by another column."""
        self.table().shift_sort(step)

    def action_reverse(self) -> None:
        """Sort the other way round."""
        table = self.table()
        if table.sort_column is not None:
            table.sort_by(table.sort_column, not table.reverse)

    def action_zoom(self) -> None:
        """Let the focused panel fill the screen, or go back to all."""
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused, container=False)

    # copying and exporting

    def action_copy(self) -> None:
        """Let a text be chosen and put it on the clipboard of the terminal (OSC 52)."""
        copies = self.copies()
        if not copies:
            self.notify("There is nothing to copy here.", severity="warning")
            return
        names = [f"{name}: {_beginning(text)}" for name, text in copies]

        def chosen(index: int | None) -> None:
            if index == len(copies):
                self.viewer.to_print.append(copies[0][1])
                self.notify("It will be printed at the end.", markup=False)
            elif index is not None:
                name, text = copies[index]
                self.app.copy_to_clipboard(text)
                self.notify(f"Copied {name}: {_beginning(text)}", markup=False)

        last = "print the first of these when prunectl ends"
        self.app.push_screen(Choose("Copy", [*names, last]), chosen)

    def copies(self) -> Copies:
        """Return the trial, the row and the table under the cursor."""
        out: Copies = []
        for view in self.chosen_trials()[:1]:
            store = self.viewer.paths.root
            out += [
                ("trial", view.trial.id),
                ("stage folder", f"{store}/stages/{view.trial.path[view.iteration]}"),
                ("command: retry", f"prunectl retry {view.trial.id} --store {store}"),
            ]
        for name, everything in (("row", False), ("table", True)):
            lines = self.table().table_text(everything=everything)
            if len(lines) > 1:
                out.append((f"{name} as TSV", "".join("\t".join(line) + "\n" for line in lines)))
                out.append((f"{name} as Markdown", markdown(lines)))
        return out

    def export(self, table: Result, what: str, stem: str, suffixes: Sequence[str]) -> None:
        """Write a table to a file that the user chooses, in the folder that prunectl was called in."""
        from prunectl.results import formats

        files = [Path.cwd() / f"{stem}{suffix}" for suffix in suffixes]

        def chosen(index: int | None) -> None:
            if index is None:
                return
            try:
                formats.save(table, files[index])
            except (PrunectlError, OSError) as error:
                self.notify(str(error), severity="error", markup=False)
            else:
                self.notify(f"Written: {files[index]}", markup=False)

        self.app.push_screen(Choose(f"Write the {what} to", list(map(str, files))), chosen)

    # requests

    def chosen_trials(self) -> list[TrialView]:
        """Return the trials that keys mean."""
        return []

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action in CHANGES and self.viewer.readonly)

    def action_cancel(self) -> None:
        """Cancel the trials, if really meant."""
        chosen = self._trials_or_warn()
        trials = [trial for trial in chosen if trial.state not in (State.DONE, State.CANCELLED)]
        if not trials:
            if chosen:
                text = "It is done or cancelled already: nothing to cancel."
                self.notify(text, severity="warning")
            return
        self.viewer.confirm(_cancel_dialog(trials), Request("cancel", _ids(trials)))

    def action_hold(self) -> None:
        """Hold the trials, or release them."""
        if trials := self._trials_or_warn():
            held = trials[0].state is State.HELD
            self.viewer.send(Request("release" if held else "hold", _ids(trials)))

    def action_retry(self) -> None:
        """Try failed or cancelled trials again."""
        trials = self._trials_or_warn()
        if trials and trials[0].state not in (State.FAILED, State.CANCELLED, State.BLOCKED):
            text = f"{trials[0].trial.id[:8]} is {trials[0].state}: nothing to retry."
            self.notify(text, severity="warning")
        elif trials:
            self.viewer.send(Request("retry", _ids(trials)))

    def action_prioritise(self, change: int) -> None:
        """Start the trials earlier or later."""
        if trials := self._trials_or_warn():
            self.viewer.send(Request("priority", _ids(trials), change=change))

    def _trials_or_warn(self) -> list[TrialView]:
        trials = self.chosen_trials()
        if not trials:
            self.notify("No trial is chosen.", severity="warning")
        return trials


def _ids(trials: Sequence[TrialView]) -> tuple[str, ...]:
    return tuple(view.trial.id for view in trials)


def _cancel_dialog(trials: Sequence[TrialView]) -> Confirm:
    view = trials[0]
    labels = view.trial.labels
    what = f"{labels.get('strategy', '')} seed {view.trial.seeds} ({view.trial.id[:8]})"
    if len(trials) > 1:
        what = f"{len(trials)} trials that need this stage, the first {what}"
    place = f"{labels.get('network', '')} · {labels.get('dataset', '')}"
    detail = (
        f"{place} · iteration {view.iteration} of {len(view.trial.path) - 1}, {view.state}.\n"
        f"Stages that other trials need go on. {hint('trial.retry', 'R')} takes it back later; "
        "nothing recorded is lost."
    )
    return Confirm(f"Cancel {what}?", detail, "Keep", "Cancel it")


TRIAL_KEYS: list[BindingType] = [
    Binding("c", "cancel", "Cancel", id="trial.cancel", tooltip="Cancel the trial (asks first)"),
    Binding("h", "hold", "Hold", id="trial.hold", tooltip="Hold the trial, or release it"),
    Binding("R", "retry", "Retry", id="trial.retry", tooltip="Try a failed or cancelled trial again"),
    Binding("plus,equals_sign", "prioritise(1)", "Sooner", show=False, key_display="+", id="trial.sooner"),
    Binding("minus", "prioritise(-1)", "Later", show=False, key_display="-", id="trial.later"),
]  # fmt: skip
"""Of views with trials."""


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Write lines, the headings first, as a GitHub table."""
    from prunectl.results.formats import to_markdown
    from prunectl.store.db.query import Result

    headings, *rows = map(tuple, lines)
    return to_markdown(Result(headings, ("VARCHAR",) * len(headings), rows))


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:39] + "…"
