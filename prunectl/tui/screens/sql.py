"""SQL over a private copy of the results: whatever is asked keeps nobody waiting and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TextArea

from prunectl.errors import PrunectlError
from prunectl.tui import sql_view as q
from prunectl.tui import text as t
from prunectl.tui.keymap import hint
from prunectl.tui.screens.base import View
from prunectl.tui.screens.dialogs import Choose
from prunectl.tui.sql_view import Entry, Row
from prunectl.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from prunectl.store.db.query import Result
    from prunectl.store.db.replica import Replica, Table

ROWS = 500
"""That are fetched; more are told, not shown."""
SUFFIXES = (".csv", ".md", ".json", ".tex", ".parquet")


class Copied(Message):
    """The private copy is there, or could not be made."""

    def __init__(
        self, replica: Replica | None, tables: tuple[Table, ...], trouble: str = ""
    ) -> None:
        super().__init__()
        self.replica = replica
        self.tables = tables
        self.trouble = trouble


class Asked(Message):
    """The answer to a query."""

    def __init__(self, sql: str, result: Result | None, trouble: str, seconds: float) -> None:
        super().__init__()
        self.sql = sql
        self.result = result
        self.trouble = trouble
        self.seconds = seconds


class Sql(View):
    """The third view."""

    NAME = "SQL"
    FOOTER = (
        "sql.run",
        "sql.recipes",
        "sql.recopy",
        "sql.export",
        "view.copy",
        "app.help",
        "view.back",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+j,f5", "run_query", "Run", key_display="^j", id="sql.run", priority=True,
                tooltip="Run the query (also F5)"),
        Binding("ctrl+o", "browse", "Recipes", key_display="^o", id="sql.recipes", priority=True,
                tooltip="Recipes, history and tables"),
        Binding("ctrl+r", "recopy", "Copy anew", key_display="^r", id="sql.recopy", priority=True,
                tooltip="Copy the store's results again"),
        Binding("e", "export", "Export", id="sql.export", tooltip="Write the result to a file"),
        Binding("y", "copy", "Copy", id="view.copy"),
        Binding("escape", "back", "Stop/back", key_display="esc", id="view.back",
                tooltip="Stop the query; then leave the editor"),
        Binding("f1", "app.help", "Help", key_display="F1", id="app.help"),
        Binding("question_mark", "app.help", "Help", show=False, id="sql.help"),
        Binding("slash", "filter", "Filter the rows", show=False, key_display="/", id="view.filter"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.replica: Replica | None = None
        self.tables: tuple[Table, ...] = ()
        self.history: list[str] = []
        self.result: Result | None = None
        self.running = False
        self._copying = False
        self._copied_at = 0.0

    def content(self) -> ComposeResult:
        listed: KeyedTable[Entry] = KeyedTable(
            q.ENTRIES, lambda e: e.key, called="entries", title="Recipes", header=False
        )
        result: KeyedTable[Row] = KeyedTable(
            (), lambda row: row[0], called="result", title="Result", cells=True
        )
        result.empty = f"{hint('sql.run', '^j')} runs the query."
        with Horizontal(id="sql"):
            yield listed
            with Vertical():
                editor = TextArea(
                    q.START, id="editor", show_line_numbers=True, tab_behavior="focus"
                )
                editor.cursor_blink = False
                editor.border_title = "Query"
                yield editor
                yield Static("", id="trouble")
                yield result

    def on_mount(self) -> None:
        """The editor has the focus."""
        self.query_one("#trouble").display = False
        self.query_one(TextArea).focus()
        self._list()

    def on_screen_resume(self) -> None:
        """The first time, copy the store."""
        self.viewer.refresh_view(self)
        if self.replica is None:
            self.action_recopy()

    def on_unmount(self) -> None:
        """Let go of the copy."""
        if self.replica is not None and not self.running:
            self.replica.close()

    def primary(self) -> KeyedTable[Any]:
        return self.query_one("#result", KeyedTable)

    # the copy

    def action_recopy(self) -> None:
        """Copy the store's results again."""
        if self._copying or self.running:
            return
        self._copying = True
        self._title("copying the store …")
        reader = self.viewer.reader

        def work() -> None:
            try:
                replica = reader.replica()
                self.post_message(Copied(replica, tuple(replica.tables())))
            except PrunectlError as error:
                self.post_message(Copied(None, (), str(error)))

        self.run_worker(work, thread=True, group="copy", exit_on_error=False)

    def on_copied(self, message: Copied) -> None:
        """Ask the new copy from now on."""
        self._copying = False
        if message.replica is None:
            self._title("no copy of the store")
            self._say(f"{message.trouble}. {hint('sql.recopy', '^r')} tries again")
            return
        if self.replica is not None:
            self.replica.close()
        self.replica, self.tables = message.replica, message.tables
        self._copied_at = self.viewer.clock()
        took = f"{1000 * message.replica.seconds:.0f} ms"
        self._title(
            f"private copy of {t.clock(self._copied_at)} ({took}); nothing here can touch the store"
        )
        self._say("")
        self._list()

    def _title(self, text: str) -> None:
        self.query_one(TextArea).border_subtitle = Content(text)

    def _list(self) -> None:
        listed = self.query_one("#entries", KeyedTable)
        listed.apply(q.entries(self.viewer.reader.recipes(), self.history, self.tables))
        listed.describe("Recipes, history, tables", "⏎ into the editor")

    def _say(self, text: str) -> None:
        line = self.query_one("#trouble", Static)
        line.display = bool(text)
        line.update(Content(text))

    # queries

    def action_run_query(self) -> None:
        """Run what is in the editor."""
        replica = self.replica
        if self.running:
            self.notify(f"A query runs; {hint('view.back', 'esc')} stops it.", severity="warning")
            return
        if replica is None:
            self.action_recopy()
            return
        sql = self.query_one(TextArea).text
        if not sql.strip():
            return
        self.running = True
        self.query_one("#result", KeyedTable).describe(
            "Result", f"running … {hint('view.back', 'esc')} stops"
        )
        clock = self.viewer.clock
        started = clock()

        def work() -> None:
            result, trouble = None, ""
            try:
                result = replica.run(sql, ROWS, q.parameters(sql))
            except PrunectlError as error:
                trouble = str(error)
            self.post_message(Asked(sql, result, trouble, clock() - started))

        self.run_worker(work, thread=True, group="query", exit_on_error=False)

    def on_asked(self, message: Asked) -> None:
        """Show the answer, or what was wrong with the question."""
        self.running = False
        if message.sql not in self.history:
            self.history.append(message.sql)
        self._list()
        table = self.query_one("#result", KeyedTable)
        self._say(message.trouble)
        took = (
            t.duration(message.seconds)
            if message.seconds >= 1
            else f"{1000 * message.seconds:.0f} ms"
        )
        if message.result is None:
            table.describe("Result", f"of an earlier query · {took}" if self.result else "")
            return
        from prunectl.results import formats

        self.result = message.result
        table.empty = "No rows."
        table.sort_column = None
        table.apply(list(enumerate(message.result.rows)), q.result_columns(message.result))
        keys = f"{hint('view.copy', 'y')}: copy · {hint('sql.export', 'e')}: export"
        count = formats.row_count(message.result)
        table.describe("Result", f"{count} · {took} · {keys}")

    # moving

    def action_browse(self) -> None:
        """Go to the list of recipes, or back to the editor."""
        listed = self.query_one("#entries", KeyedTable)
        if listed.has_focus:
            self._leave_list()
        else:
            self.add_class("-browsing")
            listed.focus()

    def _leave_list(self) -> None:
        self.remove_class("-browsing")
        self.query_one(TextArea).focus()

    def on_keyed_table_opened(self, message: KeyedTable.Opened) -> None:
        """Put the chosen one into the editor."""
        if isinstance(message.item, Entry) and message.item.sql:
            editor = self.query_one(TextArea)
            editor.text = message.item.sql
            editor.border_title = Content(message.item.text.strip()[:60])
            self._leave_list()

    def action_back(self) -> None:
        """Stop the query; else leave the list, the filter, the editor."""
        if self.running and self.replica is not None:
            self.replica.interrupt()
        elif self.has_class("-browsing"):
            self._leave_list()
        elif isinstance(self.focused, TextArea):
            self.query_one("#result", KeyedTable).focus()
        else:
            super().action_back()

    def go_back(self) -> None:
        self.viewer.action_view("Dashboard")

    # results

    def copies(self) -> list[tuple[str, str]]:
        from prunectl.results import formats

        if self.result is None:
            return [("query", self.query_one(TextArea).text)]
        table = self.query_one("#result", KeyedTable)
        out: list[tuple[str, str]] = []
        item, column = table.item, table.current_column
        if item is not None and column is not None:
            out.append(("value", column.cell(item).text))
        out += [item for item in super().copies() if item[0].startswith("row")]
        out += [
            (f"result as {form}", formats.render(self.result, form))
            for form in ("csv", "md", "json")
        ]
        return [*out, ("query", self.query_one(TextArea).text)]

    def action_export(self) -> None:
        """Write the result to a file of the folder that prunectl was called in."""
        from prunectl.results import formats

        result = self.result
        if result is None:
            self.notify(
                f"There is no result yet; {hint('sql.run', '^j')} runs the query.",
                severity="warning",
            )
            return
        files = [Path.cwd() / f"result{suffix}" for suffix in SUFFIXES]

        def chosen(index: int | None) -> None:
            if index is None:
                return
            try:
                formats.save(result, files[index])
            except (PrunectlError, OSError) as error:
                self.notify(str(error), severity="error", markup=False)
            else:
                self.notify(f"Written: {files[index]}", markup=False)

        self.viewer.push_screen(
            Choose("Write the result to", [str(file) for file in files]), chosen
        )
