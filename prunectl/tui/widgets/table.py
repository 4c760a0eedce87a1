"""A table of items with keys.

Textual's DataTable holds every cell and forgets its cache of lines with every change; a list of ten thousand
trials of which forty are seen and twenty change twice a second is cheaper to draw from the items themselves.
The cursor is a key, not a number: rows may come, go and move without it pointing at something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

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
    """A table whose rows are items with keys; a header that stays, a filter, a sort column, a cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "up", "Row up", show=False, id="table.up"),
        Binding("down,j", "down", "Row down", show=False, id="table.down"),
        Binding("left", "left", "Column left", show=False, id="table.left"),
        Binding("right", "right", "Column right", show=False, id="table.right"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.pageup"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.pagedown"),
        Binding("home,g", "edge(0)", "First row", show=False, id="table.first"),
        Binding("end,G", "edge(1)", "Last row", show=False, id="table.last"),
    ]

    class Moved(Message):
        """The cursor is on another row or column, or the item under it has changed."""

        def __init__(self, table: KeyedTable[Any]) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> KeyedTable[Any]:
            return self.table

    class Opened(Message):
        """Enter, or a click on the row under the cursor."""

        def __init__(self, table: KeyedTable[Any], item: Any) -> None:
            super().__init__()
            self.table = table
            self.item = item

        @property
        def control(self) -> KeyedTable[Any]:
            return self.table

    # items

    def apply(self, items: Iterable[T], columns: Sequence[Column[T]] | None = None) -> None:
        """Show these items. The cursor stays on its key; where that is gone, on its place."""
        self.items = list(items)
        if columns is not None and tuple(columns) != self.columns:
            self.columns = tuple(columns)
            self._texts.clear()
            if self.sort_column not in {column.name for column in self.columns}:
                self.sort_column = None
        self._arrange()

    def _arrange(self) -> None:
        before, item_before = self.rows, self.item
        place = self.cursor - self._top_row()
        rows = (
            [item for item in self.items if self._passes(item)] if self.query_text else self.items
        )
        by = next((c for c in self.columns if c.name == self.sort_column), None)
        self.rows = ordered(rows, by, self.reverse) if by is not None else list(rows)
        moved = self._follow()
        if len(self.rows) != len(before) or self.virtual_size.width != self.size.width:
            self._measure()
        if moved and self.sort_column is not None:
            self.scroll_to(y=max(0, (self.cursor - place) * self.row_height), animate=False)
        self._caption()
        if not _same(before, self.rows):
            self.refresh()
        if self.item is not item_before:
            self.post_message(self.Moved(self))

    def _follow(self) -> bool:
        """Put the cursor on its key; whether that is on another line now."""
        old = self.cursor
        if self.cursor_key is not None and not (
            old < len(self.rows) and self._key(self.rows[old]) == self.cursor_key
        ):
            found = next(
                (i for i, x in enumerate(self.rows) if self._key(x) == self.cursor_key), None
            )
            self.cursor = self.cursor if found is None else found
        self.cursor = max(0, min(self.cursor, len(self.rows) - 1))
        self.cursor_key = self._key(self.rows[self.cursor]) if self.rows else self.cursor_key
        return self.cursor != old

    def _passes(self, item: T) -> bool:
        key = self._key(item)
        known = self._texts.get(key)
        if known is None or known[0] is not item:
            known = self._texts[key] = (item, text_of(item, self.columns))
        return matches(known[1], self.query_text)

    # filter and sort

    def filter(self, query: str) -> None:
        """Show only rows that match; "" shows all."""
        if query != self.query_text:
            self.query_text = query
            self._texts.clear()
            self._arrange()

    def sort_by(self, name: str | None) -> None:
        """Sort by a column; by the one it is sorted by: the other way round; None: their own order."""
        if name is not None and name == self.sort_column:
            self.reverse = not self.reverse
        else:
            self.sort_column, self.reverse = name, False
        self._arrange()
        self.refresh()
        self.call_after_refresh(self._reveal)

    def shift_sort(self, step: int) -> None:
        """Sort by the next column that is shown, or the one before; past the ends is their own order."""
        names: list[str | None] = [None, *(c.name for c, _ in self._layout() if c.heading)]
        at = names.index(self.sort_column) if self.sort_column in names else 0
        self.sort_column = names[(at + step) % len(names)]
        self._arrange()
        self.refresh()

    # the edge: title, counts

    def _caption(self) -> None:
        if self.query_text:
            count = f"{len(self.rows)} of {len(self.items)}"
            note = f"/{self.query_text} · {count} · {hint('view.back', 'esc')} clears"
        else:
            note = self.note
        if self.sort_column is not None:
            heading = next((c.heading for c in self.columns if c.name == self.sort_column), "")
            note = f"by {heading} {'↓' if self.reverse else '↑'}" + (f" · {note}" if note else "")
        if sideways := self._sideways():
            note = f"{sideways} · {note}" if note else sideways
        said = (self.title, note)
        if said != self._said:
            self._said = said
            self.border_title = Content(one_line(self.title))
            self.border_subtitle = Content(one_line(note))

    def _sideways(self) -> str:
        """Which columns are shown, where there are more."""
        if not self._cells:
            return ""
        shown, count = len(self._layout()) - 1, len(self.columns) - 1
        if shown >= count:
            return ""
        return f"←→ columns {self.first_column}–{self.first_column + shown - 1} of {count}"

    def describe(self, title: str, note: str = "") -> None:
        """Set the texts on the edge."""
        self.title, self.note = title, note
        self._caption()

    # drawing

    def _measure(self) -> None:
        head = 1 if self._header else 0
        self.virtual_size = Size(self.size.width, head + len(self.rows) * self.row_height)

    def on_resize(self) -> None:
        self._measure()
        self._caption()
        self._keep_column()

    def on_mount(self) -> None:
        self._caption()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()

    # moving

    def move_to(self, index: int) -> None:
        """Put the cursor on a row."""
        index = max(0, min(index, len(self.rows) - 1))
        if not self.rows:
            return
        changed = index != self.cursor
        self.cursor = index
        self.cursor_key = self._key(self.rows[index])
        self._reveal()
        self.refresh()
        if changed:
            self.post_message(self.Moved(self))

    def _reveal(self) -> None:
        page = self._page()
        top = self._top_row()
        if self.cursor < top:
            self.scroll_to(y=self.cursor * self.row_height, animate=False)
        elif self.cursor >= top + page:
            self.scroll_to(y=(self.cursor - page + 1) * self.row_height, animate=False)

    def _page(self) -> int:
        height = self.scrollable_content_region.height - (1 if self._header else 0)
        return max(1, height // self.row_height)

    def action_up(self) -> None:
        """Move up."""
        self.move_to(self.cursor - 1)

    def action_down(self) -> None:
        """Move down."""
        self.move_to(self.cursor + 1)

    def action_page(self, step: int) -> None:
        """Move by what is visible."""
        self.move_to(self.cursor + step * self._page())

    def action_edge(self, end: int) -> None:
        """Move to the first or the last row."""
        self.move_to(len(self.rows) - 1 if end else 0)

    def action_left(self) -> None:
        """Move the cell cursor left."""
        self._shift_column(-1)

    def action_right(self) -> None:
        """Move the cell cursor right."""
        self._shift_column(1)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("left", "right"):
            return self._cells
        return True

    def _shift_column(self, step: int) -> None:
        if not self._cells or len(self.columns) < 2:
            return
        self.column = max(1, min(self.column + step, len(self.columns) - 1))
        self._keep_column()
        self._caption()
        self.refresh()
        self.post_message(self.Moved(self))

    def _keep_column(self) -> None:
        """Scroll sideways until the column under the cursor is there."""
        if not self._cells or len(self.columns) < 2:
            return
        self.column = max(1, min(self.column, len(self.columns) - 1))
        self.first_column = max(1, min(self.first_column, self.column))
        name = self.columns[self.column].name
        while name not in self.shown_columns() and self.first_column < self.column:
            self.first_column += 1
        while self.first_column > 1:
            self.first_column -= 1
            if (
                name not in self.shown_columns()
                or self.columns[-1].name not in self.shown_columns()
            ):
                self.first_column += 1
                break

    def action_open(self) -> None:
        """Say that the item under the cursor was chosen."""
        if self.item is not None:
            self.post_message(self.Opened(self, self.item))

    # mouse

    def on_click(self, event: events.Click) -> None:
        """The header sorts, a row is chosen, the chosen row is opened."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        event.stop()
        clicked = self._column_at(offset.x)
        if self._header and offset.y == 0:
            if clicked is not None and clicked.heading:
                self.sort_by(clicked.name)
            return
        index = (offset.y + self.scroll_offset.y - (1 if self._header else 0)) // self.row_height
        if not 0 <= index < len(self.rows):
            return
        same_cell = not self._cells or clicked is self.current_column
        if self._cells and clicked in self.columns[1:]:
            self.column = self.columns.index(clicked)
        if index == self.cursor and same_cell:
            self.action_open()
        else:
            self.move_to(index)
            self.post_message(self.Moved(self))

    def _column_at(self, x: int) -> Column[T] | None:
        at = 0
        for column, wide in self._layout():
            if at <= x < at + wide + 1:
                return column
            at += wide + 1
        return None

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    # texts

    def table_text(self, *, everything: bool = True) -> tuple[list[str], list[list[str]]]:
        """Headings and rows as texts: all that are shown, or the one under the cursor."""
        columns = [column for column in self.columns if column.heading]
        items = self.rows if everything else [item for item in [self.item] if item is not None]
        rows = [[column.cell(item).text for column in columns] for item in items]
        return [column.heading for column in columns], rows


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    if len(one) != len(other):
        return False
    return all(a is b for a, b in zip(one, other, strict=True)) or list(one) == list(other)
