"""The lines of a table: which columns there is room for, and how a heading and a row are drawn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.scroll_view import ScrollView
from textual.strip import Strip

from prunectl.tui.columns import Column, visible
from prunectl.tui.keymap import hint

T = TypeVar("T")
LONGEST = 1000
"""Characters of a cell that are looked at: nobody reads more, and long lines are slow."""


def one_line(text: str) -> str:
    """Text that cannot disturb the screen: no line ends, no control characters."""
    text = text[:LONGEST]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text)


class TableLines(ScrollView, Generic[T]):
    """What a table shows, line by line: only what is visible is ever formatted."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--header",
        "table--sorted",
        "table--cursor",
        "table--cursor-blur",
        "table--dim",
        "table--good",
        "table--bad",
        "table--warn",
        "table--accent",
        "table--bold",
        "table--empty",
    }

    def __init__(
        self,
        columns: Sequence[Column[T]],
        key: Callable[[T], Hashable],
        *,
        title: str = "",
        empty: str = "",
        row_height: int = 1,
        cells: bool = False,
        header: bool = True,
        called: str | None = None,
    ) -> None:
        """`cells`: the cursor is a cell; columns but the first scroll sideways instead of being left out."""
        super().__init__(id=called)
        self.columns = tuple(columns)
        self._key = key
        self._header = header
        self.row_height = row_height
        self._cells = cells
        self.title = title
        self.empty = empty
        """What is said where there are no rows."""
        self.note = ""
        """On the lower edge."""
        self.items: list[T] = []
        """All, in their own order."""
        self.rows: list[T] = []
        """Those shown, in the order they are shown."""
        self.query_text = ""
        self.sort_column: str | None = None
        self.reverse = False
        self.cursor_key: Hashable | None = None
        self.cursor = 0
        self.column = 1
        """Index of the column under a cell cursor."""
        self.first_column = 1
        """Index of the first column beside the fixed one, where columns scroll."""
        self._texts: dict[Hashable, tuple[T, str]] = {}
        self._said: tuple[Any, ...] = ()

    def _layout(self) -> list[tuple[Column[T], int]]:
        width = self.scrollable_content_region.width
        if not self._cells:
            return visible(self.columns, width)
        chosen = [(column, column.width) for column in self.columns[:1]]
        used = sum(wide for _, wide in chosen)
        for column in self.columns[self.first_column :]:
            if used + 1 + column.width > width:
                break
            chosen.append((column, column.width))
            used += 1 + column.width
        return chosen

    def shown_columns(self) -> list[str]:
        """Names of the columns that there is room for."""
        return [column.name for column, _ in self._layout()]

    def _top_row(self) -> int:
        return self.scroll_offset.y // self.row_height

    @property
    def item(self) -> T | None:
        """The item under the cursor."""
        return self.rows[self.cursor] if 0 <= self.cursor < len(self.rows) else None

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self.rich_style
        if self._header and y == 0:
            return self._heading(width, base)
        line = y + self.scroll_offset.y - (1 if self._header else 0)
        index, part = divmod(line, self.row_height)
        if not self.rows:
            return self._nothing(y, width, base)
        if index >= len(self.rows):
            return Strip.blank(width, base)
        return self._row(self.rows[index], index == self.cursor, part, width, base)

    def _ink(self, name: str) -> Style:
        """Colour and weight of a style, blended with what is behind it; the ground stays as it is."""
        full = self.get_component_rich_style(name)
        return Style(color=full.color, bold=full.bold, italic=full.italic, underline=full.underline)

    def _heading(self, width: int, base: Style) -> Strip:
        style = base + self._ink("table--header")
        marked = base + self._ink("table--sorted")
        segments = []
        for column, wide in self._layout():
            text = column.heading
            chosen = column.name == self.sort_column
            if chosen:
                text = (text[: wide - 1] if cell_len(text) >= wide else text) + (
                    "↓" if self.reverse else "↑"
                )
            segments.append(Segment(_fit(text, wide, column.right), marked if chosen else style))
            segments.append(Segment(" ", style))
        return Strip(segments).adjust_cell_length(width, style)

    def _nothing(self, y: int, width: int, base: Style) -> Strip:
        style = base + self._ink("table--empty")
        if self.query_text:
            lines = [
                f"0 of {len(self.items)} match {self.query_text!r}; {hint('view.back', 'esc')} clears the filter"
            ]
        else:
            lines = self.empty.splitlines()
        at = y - (1 if self._header else 0)
        text = lines[at] if 0 <= at < len(lines) else ""
        return Strip([Segment(set_cell_size(one_line(f" {text}"), width), style)])

    def _row(self, item: T, current: bool, part: int, width: int, base: Style) -> Strip:
        cursor = base
        if current:
            name = "table--cursor" if self.has_focus else "table--cursor-blur"
            highlight = self.get_component_rich_style(name)
            cursor = base if self._cells else base + highlight
        segments = []
        for column, wide in self._layout():
            cell = column.cell(item)
            style = cursor
            if current and self._cells and column is self.current_column:
                style = base + highlight
            shown, name = (cell.text, cell.style) if part == 0 else (cell.below, "dim")
            if name:
                style = style + self._ink(f"table--{name}")
            segments.append(Segment(_fit(one_line(shown), wide, column.right), style))
            segments.append(Segment(" ", cursor))
        return Strip(segments).adjust_cell_length(width, cursor)

    @property
    def current_column(self) -> Column[T] | None:
        """The column under a cell cursor."""
        if not self._cells or len(self.columns) < 2:
            return None
        return self.columns[max(1, min(self.column, len(self.columns) - 1))]


def _fit(text: str, width: int, right: bool) -> str:
    length = cell_len(text)
    if length > width:
        return (
            set_cell_size(text, max(0, width - 1)) + "…"
            if width > 1
            else set_cell_size(text, width)
        )
    return " " * (width - length) + text if right else text + " " * (width - length)
