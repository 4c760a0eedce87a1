"""A table of items with keys: filter, sort order, cursor and mouse over the lines of `TableLines`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message

from prunectl.tui.columns import Column, matches, ordered, text_of
from prunectl.tui.keymap import hint
from prunectl.tui.widgets.lines import TableLines, one_line

T = TypeVar("T")


class KeyedTable(TableLines[T], can_focus=True):
    """A table whose rows are items with keys.

    The cursor belongs to a key, not to a line: rows may come, go and move without it pointing at another item.

    Textual's DataTable is no replacement (measured with Textual 8.2.8 and 10,000 trials on 2 cores of an AMD EPYC,
    2026-11-26). Holding all rows it takes 1.9 s to fill and 0.5 to 3.4 s for another filter, since it measures every
    cell; here another filter takes 7.5 ms of CPU, 24 ms with drawing. A subclass of it with virtual rows overrides
    half a dozen private names, and an update of 20 visible rows takes it 87 ms of CPU, since every change empties its
    caches of rendered cells; here it takes 17 ms, twice a second beside a run.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Row up", show=False, id="table.up"),
        Binding("down,j", "move(1)", "Row down", show=False, id="table.down"),
        Binding("left", "column(-1)", "Column left", show=False, id="table.left"),
        Binding("right", "column(1)", "Column right", show=False, id="table.right"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.pageup"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.pagedown"),
        Binding("home,g", "edge(0)", "First row", show=False, id="table.first"),
        Binding("end,G", "edge(1)", "Last row", show=False, id="table.last"),
    ]

    class Moved(Message):
        """The cursor is on another row or column, or the item under it has changed."""

    class Opened(Message):
        """The row under the cursor was clicked."""

    # items

    def apply(self, items: Iterable[T], columns: tuple[Column[T], ...] | None = None) -> None:
        """Show these items. The cursor stays on its key; where that is gone, on its line."""
        self.items = list(items)
        if columns is not None and columns is not self.columns:
            self.columns = columns
            self._texts = {}
            if self.sort_column not in {column.name for column in columns}:
                self.sort_column = None
            self._keep_column()
            self.refresh()
        self._arrange()

    def _arrange(self) -> None:
        before, item_before = self.rows, self.item
        place = self.cursor - self._top_row()
        rows = self._matching() if self.query_text else list(self.items)
        by = next((c for c in self.columns if c.name == self.sort_column), None)
        self.rows = ordered(rows, by, self.reverse) if by is not None else rows
        moved = self._follow()
        self._measure()
        # Sorted rows move with every change: scroll along, so that the cursor keeps its line on the screen.
        if moved and by is not None:
            self.scroll_to(y=max(0, (self.cursor - place) * self.row_height), animate=False)
        self._caption()
        if before != self.rows:
            self.refresh()
        if self.item is not item_before:
            self.post_message(self.Moved())

    def _follow(self) -> bool:
        """Put the cursor on its key. Returns whether that is on another line now."""
        old = self.cursor
        keys = map(self._key, self.rows)
        if self.item is None or self._key(self.item) != self.cursor_key:
            self.cursor = next((i for i, key in enumerate(keys) if key == self.cursor_key), old)
        self.cursor = max(0, min(self.cursor, len(self.rows) - 1))
        if self.item is not None:
            self.cursor_key = self._key(self.item)
        return self.cursor != old

    # filter and sort

    def prepare_filter(self) -> None:
        """Read the texts that a filter searches: those of 10,000 trials take 120 ms, which
        the first key typed then need not wait for."""
        known = self._texts
        self._texts = {
            id(item): known.get(id(item)) or (item, text_of(item, self.columns))
            for item in self.items
        }

    def _matching(self) -> list[T]:
        self.prepare_filter()
        return [item for item, text in self._texts.values() if matches(text, self.query_text)]

    def filter(self, query: str) -> None:
        """Show only rows that match; "" shows all."""
        if query != self.query_text:
            self.query_text = query
            self._arrange()

    def sort_by(self, name: str | None, reverse: bool = False) -> None:
        """Sort by a column; None restores the items' own order."""
        self.sort_column, self.reverse = name, reverse
        self._arrange()
        self.refresh()
        self.call_after_refresh(self._reveal)

    def shift_sort(self, step: int) -> None:
        """Sort by the next column that is shown, or the one before; past the ends is the items' own order."""
        names: list[str | None] = [None, *(c.name for c, _ in self._layout() if c.heading)]
        at = names.index(self.sort_column) if self.sort_column in names else 0
        self.sort_by(names[(at + step) % len(names)], self.reverse)

    # the edge: title, counts

    def describe(self, title: str, note: str = "") -> None:
        """Set the texts on the edge."""
        self.title, self.note = title, note
        self._caption()

    def _caption(self) -> None:
        notes = [self._sideways(), "", self.note]
        if self.query_text:
            count = f"{len(self.rows)} of {len(self.items)}"
            notes[2] = f"/{self.query_text} · {count} · {hint('view.back', 'esc')} clears"
        if self.sort_column is not None:
            heading = next((c.heading for c in self.columns if c.name == self.sort_column), "")
            notes[1] = f"by {heading} {'↓' if self.reverse else '↑'}"
        caption = (one_line(self.title), one_line(" · ".join(filter(None, notes))))
        if caption != self._shown_caption:  # Textual redraws the panel even for the same title
            self._shown_caption = caption
            self.border_title, self.border_subtitle = map(Content, caption)

    def _sideways(self) -> str:
        """Return which columns are shown, where there are more."""
        shown, count = len(self._layout()) - 1, len(self.columns) - 1
        if not self._cells or shown >= count:
            return ""
        return f"←→ columns {self.first_column}–{self.first_column + shown - 1} of {count}"

    # moving

    def _measure(self) -> None:
        height = self._head + len(self.rows) * self.row_height
        self.virtual_size = Size(self.size.width, height)

    def on_resize(self) -> None:
        self._measure()
        self._keep_column()
        self._caption()

    def move_to(self, index: int) -> None:
        """Put the cursor on a row, the nearest one where there is none of this index."""
        if not self.rows:
            return
        before, self.cursor = self.cursor, max(0, min(index, len(self.rows) - 1))
        self.cursor_key = self._key(self.rows[self.cursor])
        self._reveal()
        self.refresh()
        if self.cursor != before:
            self.post_message(self.Moved())

    def _reveal(self) -> None:
        top, page = self._top_row(), self._page()
        if not top <= self.cursor < top + page:
            first = self.cursor if self.cursor < top else self.cursor - page + 1
            self.scroll_to(y=first * self.row_height, animate=False)

    def _top_row(self) -> int:
        return self.scroll_offset.y // self.row_height

    def _page(self) -> int:
        height = self.scrollable_content_region.height - self._head
        return max(1, height // self.row_height)

    def action_move(self, step: int) -> None:
        """Move by rows."""
        self.move_to(self.cursor + step)

    def action_page(self, step: int) -> None:
        """Move by what is visible."""
        self.move_to(self.cursor + step * self._page())

    def action_edge(self, end: int) -> None:
        """Move to the first or the last row."""
        self.move_to(len(self.rows) - 1 if end else 0)

    def action_column(self, step: int) -> None:
        """Move a cell cursor sideways."""
        self.column += step
        self._keep_column()
        self._caption()
        self.refresh()
        self.post_message(self.Moved())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "column" or self._cells

    def _keep_column(self) -> None:
        """Scroll sideways until the column under the cursor is shown, and leave no room unused on the right."""
        last = len(self.columns) - 1
        if self._cells and last > 0:
            self.column = max(1, min(self.column, last))
            furthest = min(self.first_column, self.column, self._leftmost(last))
            self.first_column = max(furthest, self._leftmost(self.column))

    def _leftmost(self, column: int) -> int:
        """Return the first of the scrolling columns that there is room for where `column` is the last one shown."""
        room = self.scrollable_content_region.width - self.columns[0].width
        first = column
        while first > 1 and sum(c.width + 1 for c in self.columns[first - 1 : column + 1]) <= room:
            first -= 1
        return first

    # mouse

    def on_click(self, event: events.Click) -> None:
        """Sort by a heading, put the cursor on a row, open the row under the cursor."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        event.stop()
        clicked = self._column_at(offset.x)
        if offset.y < self._head:
            if clicked is not None and clicked.heading:
                again = clicked.name == self.sort_column
                self.sort_by(clicked.name, again and not self.reverse)
            return
        index = (offset.y + self.scroll_offset.y - self._head) // self.row_height
        if not 0 <= index < len(self.rows):
            return
        if index == self.cursor and (not self._cells or clicked is self.current_column):
            self.post_message(self.Opened())
            return
        if self._cells and clicked in self.columns[1:]:
            self.column = self.columns.index(clicked)
        self.move_to(index)
        self.post_message(self.Moved())

    def _column_at(self, x: int) -> Column[T] | None:
        end = 0
        for column, wide in self._layout():
            end += wide + 1
            if x < end:
                return column
        return None

    def table_text(self, *, everything: bool) -> list[list[str]]:
        """Return headings and rows as texts without tabs: of all rows shown, or of the one under the cursor."""
        columns = [column for column in self.columns if column.heading]
        items = self.rows if everything else self.rows[self.cursor : self.cursor + 1]
        rows = [[column.cell(item).text for column in columns] for item in items]
        lines = [[column.heading for column in columns], *rows]
        return [[text.replace("\t", " ").strip() for text in line] for line in lines]
