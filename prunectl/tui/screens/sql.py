"""SQL over a private copy of the results: a query keeps nobody waiting and changes nothing in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static, TextArea

from prunectl.tui import sql_view
from prunectl.tui import text as t
from prunectl.tui.keymap import hint
from prunectl.tui.screens.base import Copies, View
from prunectl.tui.sql_view import Entry, Row
from prunectl.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from prunectl.store.db.query import Result
    from prunectl.store.db.replica import Replica, Table

ROWS = 500
"""Fetched of a result; that there are more is said, they are not shown."""
SUFFIXES = (".csv", ".md", ".json", ".tex", ".parquet")


class Sql(View):
    """The third view."""

    NAME = "SQL"
    PRIMARY = "result"
    BINDINGS: ClassVar[list[BindingType]] = [
        # priority: the editor would take these for itself.
        Binding("ctrl+j,f5", "run_query", "Run", key_display="^j", id="sql.run", priority=True,
                tooltip="Run the query (also F5)"),
        Binding("ctrl+o", "browse", "Recipes", key_display="^o", id="sql.recipes", priority=True,
                tooltip="Recipes, history and tables"),
        Binding("ctrl+r", "recopy", "Copy anew", key_display="^r", id="sql.recopy", priority=True,
                tooltip="Copy the store's results again"),
        Binding("e", "export", "Export", id="sql.export", tooltip="Write the result to a file"),
        Binding("y", "copy", "Copy", id="view.copy"),
        Binding("f1", "app.help", "Help", key_display="F1", id="app.help"),
        Binding("question_mark", "app.help", "Help", show=False, id="sql.help"),
        Binding("escape", "back", "Stop/back", key_display="esc", id="view.back",
                tooltip="Stop the query; then leave the editor"),
        Binding("slash", "filter", "Filter the rows", show=False, key_display="/", id="view.filter"),
        # Not shown: `q` is typed while the editor has the focus, and 80 columns hold no more.
        Binding("q,ctrl+q,ctrl+c", "app.leave", "Quit", show=False, key_display="q", id="app.quit",
                tooltip="Leave; a run goes on"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.replica: Replica | None = None
        self.tables: tuple[Table, ...] = ()
        self.history: list[str] = []
        self.result: Result | None = None
        self.running = False
        self._copying = False

    def content(self) -> ComposeResult:
        empty = f"{hint('sql.run', '^j')} runs the query."
        with Horizontal(id="sql"):
            yield KeyedTable(sql_view.ENTRIES, id="entries", title="Recipes", header=False)
            with Vertical():
                yield TextArea(
                    sql_view.START, id="editor", show_line_numbers=True, tab_behavior="focus"
                )
                yield Static("", id="trouble")
                yield KeyedTable[Row](
                    (), lambda row: row[0], id="result", title="Result", cells=True, empty=empty
                )

    def on_mount(self) -> None:
        """Focus the editor."""
        editor = self._editor
        editor.cursor_blink = False
        editor.border_title = "Query"
        editor.focus()
        self.query_one("#trouble").display = False
        self._list()

    def on_screen_resume(self) -> None:
        """Copy the store the first time."""
        if self.replica is None:
            self.action_recopy()

    def on_unmount(self) -> None:
        """Close the copy; a query that still runs in its thread keeps it until the process ends."""
        if self.replica is not None and not self.running:
            self.replica.close()

    @property
    def _editor(self) -> TextArea:
        return self.query_one(TextArea)

    # the copy

    def action_recopy(self) -> None:
        """Copy the store's results again."""
        if self._copying or self.running:
            return
        self._copying = True
        self._editor.border_subtitle = "copying the store …"

        def work() -> tuple[Replica, tuple[Table, ...]]:
            replica = self.viewer.reader.replica()
            return replica, tuple(replica.tables())

        self.read(work, self._copied, self._copy_failed, group="copy")

    def _copied(self, found: tuple[Replica, tuple[Table, ...]]) -> None:
        self._copying = False
        if self.replica is not None:
            self.replica.close()
        self.replica, self.tables = found
        when = f"{t.clock(self.viewer.clock())} ({1000 * self.replica.seconds:.0f} ms)"
        title = f"private copy of {when}; nothing here can touch the store"
        self._editor.border_subtitle = Content(title)
        self._say("")
        self._list()

    def _copy_failed(self, text: str) -> None:
        self._copying = False
        self._editor.border_subtitle = "no copy of the store"
        self._say(f"{text}. {hint('sql.recopy', '^r')} tries again")

    def _list(self) -> None:
        listed = self.panel("entries")
        listed.apply(sql_view.entries(self.viewer.reader.queries(), self.history, self.tables))
        listed.describe("Recipes, history, tables", "⏎ into the editor")

    def _say(self, text: str) -> None:
        line = self.query_one("#trouble", Static)
        line.display = bool(text)
        line.update(Content(text))

    # queries

    def action_run_query(self) -> None:
        """Run what is in the editor."""
        replica, sql, clock = self.replica, self._editor.text, self.viewer.clock
        stop = hint("view.back", "esc")
        if self.running:
            self.notify(f"A query runs; {stop} stops it.", severity="warning")
            return
        if replica is None:
            self.action_recopy()
            return
        if not sql.strip():
            return
        self.running = True
        self.panel("result").describe("Result", f"running … {stop} stops")
        started = clock()

        def answered(result: Result | None, trouble: str = "") -> None:
            self._answered(sql, result, trouble, clock() - started)

        self.read(
            lambda: replica.run(sql, ROWS, sql_view.parameters(sql)),
            answered,
            lambda trouble: answered(None, trouble),
            group="query",
        )

    def _answered(self, sql: str, result: Result | None, trouble: str, seconds: float) -> None:
        """Show the answer, or what was wrong with the query."""
        self.running = False
        if sql not in self.history:
            self.history.append(sql)
        self._list()
        self._say(trouble)
        table = self.panel("result")
        took = t.duration(seconds) if seconds >= 1 else f"{1000 * seconds:.0f} ms"
        if result is None:
            table.describe("Result", f"of an earlier query · {took}" if self.result else "")
            return
        from prunectl.results import formats

        self.result = result
        table.empty = "No rows."
        table.sort_column = None
        table.apply(list(enumerate(result.rows)), sql_view.result_columns(result))
        keys = f"{hint('view.copy', 'y')}: copy · {hint('sql.export', 'e')}: export"
        count = formats.row_count(result)
        table.describe("Result", f"{count} · {took} · {keys}")

    # moving

    def action_browse(self) -> None:
        """Go to the list of queries, or back to the editor."""
        if self.panel("entries").has_focus:
            self._leave_list()
        else:
            self.add_class("-browsing")
            self.panel("entries").focus()

    def _leave_list(self) -> None:
        self.remove_class("-browsing")
        self._editor.focus()

    def action_open(self) -> None:
        """Put the chosen query into the editor."""
        entry = self.table().item
        if isinstance(entry, Entry) and entry.sql:
            self._editor.text = entry.sql
            self._editor.border_title = Content(entry.text.strip()[:60])
            self._leave_list()

    def action_back(self) -> None:
        """Stop the query; else leave the list, the editor, the filter, the view."""
        if self.running and self.replica is not None:
            self.replica.interrupt()
        elif self.has_class("-browsing"):
            self._leave_list()
        elif self._editor.has_focus:
            self.panel("result").focus()
        else:
            super().action_back()

    def go_back(self) -> None:
        self.viewer.action_view("Dashboard")

    # results

    def copies(self) -> Copies:
        from prunectl.results.formats import render

        query = ("query", self._editor.text)
        if self.result is None:
            return [query]
        table = self.panel("result")
        out: Copies = []
        if table.item is not None and table.current_column is not None:
            out.append(("value", table.current_column.cell(table.item).text))
        out += [item for item in super().copies() if item[0].startswith("row")]
        out += [(f"result as {form}", render(self.result, form)) for form in ("csv", "md", "json")]
        return [*out, query]

    def action_export(self) -> None:
        """Write the result to a file."""
        if self.result is None:
            run = hint("sql.run", "^j")
            self.notify(f"There is no result yet; {run} runs the query.", severity="warning")
        else:
            self.export(self.result, "result", "result", SUFFIXES)
