"""What all views share: the lines on top, panels, the filter, copying, requests, and a message for small windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from prunectl.monitor.snapshot import Snapshot, TrialView
from prunectl.tui import status_lines as status
from prunectl.tui.confirm import Request
from prunectl.tui.keymap import hint
from prunectl.tui.widgets.header import Masthead
from prunectl.tui.widgets.keys import Keys
from prunectl.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from prunectl.tui.app import Viewer

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
    FOOTER: ClassVar[tuple[str, ...]] = ()
    """Ids of the keys in the line at the bottom."""
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/", id="view.filter",
                tooltip="Rows with all words; !word leaves rows out"),
        Binding("enter", "open", "Open", show=False, key_display="⏎", id="view.open"),
        Binding("escape", "back", "Clear the filter, or back", show=False, id="view.back"),
        Binding("comma", "sort(-1)", "Sort by the column before", show=False, key_display=",", id="view.sort-left"),
        Binding("full_stop", "sort(1)", "Sort by the next column", show=False, key_display=".", id="view.sort-right"),
        Binding("r", "reverse", "Reverse the order", show=False, id="view.reverse"),
        Binding("z", "zoom", "Zoom the panel", show=False, id="view.zoom"),
        Binding("y", "copy", "Copy", show=False, id="view.copy"),
        Binding("ctrl+c", "app.leave", "Quit", show=False, id="view.quit", tooltip="Leave; a run goes on"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.snapshot: Snapshot | None = None
        """The one shown."""
        self._composed = False

    # parts

    def compose(self) -> ComposeResult:
        yield Masthead(self.NAME, self.crumb())
        with Container(id="body"):
            yield from self.content()
        yield FilterBar(
            placeholder="filter: words that rows must have, !word must not",
            id="filter",
            compact=True,
        )
        yield Keys(self.FOOTER)
        yield Static("", id="small")

    def content(self) -> ComposeResult:
        """The panels of the view."""
        yield Static("")

    def crumb(self) -> str:
        """Where one is, for a view below the three."""
        return ""

    @property
    def ready(self) -> bool:
        """Whether all its parts are there: neither before they are mounted nor while they are taken down."""
        return self._composed and bool(self.query(Masthead))

    @property
    def viewer(self) -> Viewer:
        """The program."""
        return cast("Viewer", self.app)

    # snapshots

    def take(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        if snapshot is not self.snapshot and self.ready:
            self.snapshot = snapshot
            self.show(snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Bring the panels up to date."""

    def tick(self) -> None:
        """The lines on top, once a second and with every snapshot."""
        if not self.ready:
            return
        viewer = self.viewer
        head = self.query_one(Masthead)
        latest = viewer.snapshot
        banner = (
            f"PAUSED, {hint('app.pause', 'space')} goes on"
            if viewer.paused
            else "read only"
            if viewer.readonly
            else ""
        )
        now = viewer.clock()
        line = status.status(latest, now, max(0, head.size.width - 2), viewer.trouble)
        head.show(status.context(latest, max(0, head.size.width - 60)), banner, line)

    def on_mount(self) -> None:
        """Show what is known. What a view does when it is mounted comes before this."""
        self._composed = True
        self._lay_out_for(self.size.width, self.size.height)
        self.viewer.refresh_view(self)

    # size

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout."""
        if self.ready:
            self._lay_out_for(*event.size)

    def _lay_out_for(self, width: int, height: int) -> None:
        small = width < SMALLEST[0] or height < SMALLEST[1]
        self.set_class(small, "-small")
        wide = width >= WIDE[0] and height >= WIDE[1]
        self.set_class(wide, "-wide")
        self.set_class(not wide, "-narrow")
        if small:
            leave = hint("app.quit", "q")
            self.query_one("#small", Static).update(
                f"{width}×{height} is too small for tables.\n"
                f"Please make the window {SMALLEST[0]}×{SMALLEST[1]} or larger.\n\n{leave}: quit; a run goes on"
            )
        self.resized()
        self.call_after_refresh(self.tick)

    def resized(self) -> None:
        """Lay out anew; the classes are set."""

    # tables

    def primary(self) -> KeyedTable[Any]:
        """The table that keys mean where none has the focus."""
        return self.query(KeyedTable).first()

    def table(self) -> KeyedTable[Any]:
        """The table that keys mean."""
        focused = self.focused
        return focused if isinstance(focused, KeyedTable) else self.primary()

    def action_open(self) -> None:
        """Open what is under the cursor."""
        self.table().action_open()

    def action_filter(self) -> None:
        """Type a filter."""
        self._filtered = self.table()
        bar = self.query_one(FilterBar)
        bar.value = self._filtered.query_text
        self.add_class("-filtering")
        bar.focus()

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
        elif self.query(KeyedTable) and self.table().query_text:
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
        """The other way round."""
        table = self.table()
        if table.sort_column is not None:
            table.sort_by(table.sort_column)

    def action_zoom(self) -> None:
        """Let the focused panel fill the screen, or go back to all."""
        if self.maximized is not None:
            self.minimize()
        elif isinstance(self.focused, Widget):
            self.maximize(self.focused, container=False)

    # copying

    def action_copy(self) -> None:
        """Offer what can be copied."""
        self.viewer.offer_copies(self.copies())

    def copies(self) -> Copies:
        """The trial, the row and the table under the cursor."""
        out: Copies = []
        for view in self.chosen_trials()[:1]:
            store = self.snapshot.store if self.snapshot else ""
            stage = view.path[view.iteration]
            out += [
                ("trial", view.trial),
                ("stage folder", f"{store}/stages/{stage}"),
                ("command: retry", f"prunectl retry {view.trial} --store {store}"),
            ]
        table = self.table()
        for name, everything in (("row", False), ("table", True)):
            headings, rows = table.table_text(everything=everything)
            if rows:
                out.append((f"{name} as TSV", tsv(headings, rows)))
                out.append((f"{name} as Markdown", markdown(headings, rows)))
        return out

    # requests

    def chosen_trials(self) -> list[TrialView]:
        """The trials that keys mean."""
        return []

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action in CHANGES and self.viewer.readonly)

    def action_cancel(self) -> None:
        """Cancel the trial, if really meant."""
        trials = self.chosen_trials()
        if not trials:
            self.notify("No trial is chosen.", severity="warning")
            return
        trials = [trial for trial in trials if trial.state not in ("done", "cancelled")]
        if not trials:
            self.notify("It is done or cancelled already: nothing to cancel.", severity="warning")
            return
        view = trials[0]
        labels = view.labels
        what = f"{labels.get('strategy', '')} seed {view.seed} ({view.trial[:8]})"
        last = len(view.path) - 1
        detail = (
            f"{labels.get('network', '')} · {labels.get('dataset', '')} · "
            f"iteration {view.iteration} of {last}, {view.state}.\n"
            f"Stages that other trials need go on. {hint('trial.retry', 'R')} takes it back later; "
            "nothing recorded is lost."
        )
        if len(trials) > 1:
            what = f"{len(trials)} trials that need this stage, the first {what}"
        request = Request("cancel", tuple(trial.trial for trial in trials))
        self.viewer.confirm(f"Cancel {what}?", detail, "Keep", "Cancel it", request)

    def action_hold(self) -> None:
        """Hold the trial, or release it."""
        self._ask_about(lambda view: "release" if view.state == "held" else "hold")

    def action_retry(self) -> None:
        """Try a failed or cancelled trial again."""
        for view in self.chosen_trials()[:1]:
            if view.state not in ("failed", "cancelled", "blocked"):
                self.notify(
                    f"{view.trial[:8]} is {view.state}: nothing to retry.", severity="warning"
                )
                return
        self._ask_about(lambda view: "retry")

    def action_prioritise(self, change: int) -> None:
        """Earlier or later."""
        trials = self.chosen_trials()
        if trials:
            names = tuple(view.trial for view in trials)
            self.viewer.send(Request("priority", names, change=change))

    def _ask_about(self, do: Any) -> None:
        trials = self.chosen_trials()
        if not trials:
            self.notify("No trial is chosen.", severity="warning")
            return
        self.viewer.send(Request(do(trials[0]), tuple(view.trial for view in trials)))


TRIAL_KEYS: list[BindingType] = [
    Binding("c", "cancel", "Cancel", id="trial.cancel", tooltip="Cancel the trial (asks first)"),
    Binding("h", "hold", "Hold", id="trial.hold", tooltip="Hold the trial, or release it"),
    Binding(
        "R", "retry", "Retry", id="trial.retry", tooltip="Try a failed or cancelled trial again"
    ),
    Binding(
        "plus,equals_sign",
        "prioritise(1)",
        "Sooner",
        show=False,
        key_display="+",
        id="trial.sooner",
    ),
    Binding("minus", "prioritise(-1)", "Later", show=False, key_display="-", id="trial.later"),
]
"""Of views with trials."""


def tsv(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows with tabs between."""
    lines = (headings, *rows)
    return "".join(
        "\t".join(cell.replace("\t", " ").strip() for cell in line) + "\n" for line in lines
    )


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as a GitHub table."""
    from prunectl.results.formats import to_markdown
    from prunectl.store.db.query import Result

    texts = [tuple(cell.strip() for cell in row) for row in rows]
    return to_markdown(Result(tuple(headings), ("VARCHAR",) * len(headings), texts))


def keys_of(screen: Screen[Any]) -> Iterator[tuple[str, Binding, bool]]:
    """Where, which and whether enabled: the keys that work now, those of the focused panel first."""
    for active in screen.active_bindings.values():
        node = active.node
        if not active.binding.id and not isinstance(node, TextArea):
            continue  # Textual's own, which say nothing about this program
        where = "this view" if node is screen else "everywhere" if node is screen.app else "here"
        yield where, active.binding, active.enabled


def words_of(binding: Binding) -> str:
    """What a key does, with the word of the line at the bottom."""
    if not binding.tooltip or binding.tooltip.startswith(binding.description):
        return binding.tooltip or binding.description
    return f"{binding.description}: {binding.tooltip}"
