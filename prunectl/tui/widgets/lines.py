"""The lines of a table: which columns there is room for, and how a heading and a row are drawn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import ClassVar, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.scroll_view import ScrollView
from textual.strip import Strip

from prunectl.tui.columns import Column, visible
from prunectl.tui.keymap import hint

T = TypeVar("T")
STYLES = ("header", "sorted", "cursor", "cursor-blur", "empty",
          "dim", "good", "bad", "warn", "accent", "bold")  # fmt: skip
"""What app.tcss gives colours to."""
LONGEST = 1000
"""Characters of a cell that are looked at: a traceback in one cell would cost milliseconds a line."""


def one_line(text: str) -> str:
    """Return text that cannot disturb the screen: no line ends, no control characters."""
    text = text[:LONGEST]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text)


class TableLines(ScrollView, Generic[T]):
    """The drawing half of `KeyedTable`: only visible lines are formatted."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"table--{name}" for name in STYLES}

    def __init__(
        self,
        columns: Sequence[Column[T]],
        key: Callable[[T], Hashable] = attrgetter("key"),
        *,
        id: str,  # noqa: A002 (Textual's name)
        title: str = "",
        empty: str = "",
        cells: bool = False,
        header: bool = True,
    ) -> None:
        """Create an empty table.

        Args:
            columns: what is shown of an item; may be replaced with each `apply`.
            key: identifies an item among all of them, over time.
            title: on the upper edge.
            empty: what is said where there are no rows.
            cells: the cursor is a cell, not a row; columns but the first scroll sideways instead of being left out.
            header: the first line has headings.
        """
        super().__init__(id=id)
        self.columns = tuple(columns)
        self._key = key
        self._head = 1 if header else 0
        """Lines of the header."""
        self._cells = cells
        self.row_height = 1
        """Lines of a row, 1 or 2."""
        self.title = title
        self.note = ""
        """On the lower edge."""
        self.empty = empty
        self.items: list[T] = []
        """All, in their own order."""
        self.rows: list[T] = []
        """Those that pass the filter, in the order they are shown."""
        self.query_text = ""
        self.sort_column: str | None = None
        self.reverse = False
        self.cursor = 0
        """Index into `rows`."""
        self.column = 1
        """Index of the column under a cell cursor."""
        self.first_column = 1
        """Index of the first column beside the fixed one, where columns scroll."""
        self.cursor_key: Hashable | None = None
        self._texts: dict[int, tuple[T, str]] = {}
        """Items, and what a filter searches of them, by `id`: two settings of a trial can have the same key."""
        self._shown_caption = ("", "")

    def _layout(self) -> list[tuple[Column[T], int]]:
        width = self.scrollable_content_region.width
        if not self._cells:
            return visible(self.columns, width)
        chosen = [(column, column.width) for column in self.columns[:1]]
        used = sum(wide for _, wide in chosen)
        for column in self.columns[self.first_column :]:
            used += 1 + column.width
            if used > width:
                break
            chosen.append((column, column.width))
        return chosen

    @property
    def item(self) -> T | None:
        """The item under the cursor."""
        return self.rows[self.cursor] if 0 <= self.cursor < len(self.rows) else None

    @property
    def current_column(self) -> Column[T] | None:
        """The column under a cell cursor."""
        inside = self._cells and 0 < self.column < len(self.columns)
        return self.columns[self.column] if inside else None

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if y < self._head:
            return self._heading(width, base)
        if not self.rows:
            return self._nothing(y - self._head, width, base)
        index, part = divmod(y - self._head + self.scroll_offset.y, self.row_height)
        if index >= len(self.rows):
            return Strip.blank(width, base)
        return self._row(self.rows[index], index == self.cursor, part, width, base)

    def _ink(self, name: str) -> Style:
        """Return colour and weight of a style, blended with what is behind it; the background stays as it is."""
        full = self.get_component_rich_style(f"table--{name}")
        return Style(color=full.color, bold=full.bold, italic=full.italic, underline=full.underline)

    def _heading(self, width: int, base: Style) -> Strip:
        style = base + self._ink("header")
        segments = []
        for column, wide in self._layout():
            text, ink = column.heading, style
            if column.name == self.sort_column:
                arrow = "↓" if self.reverse else "↑"
                text = set_cell_size(text, min(cell_len(text), wide - 1)) + arrow
                ink = base + self._ink("sorted")
            segments += [Segment(_fit(text, wide, column.right), ink), Segment(" ", style)]
        return Strip(segments).adjust_cell_length(width, style)

    def _nothing(self, at: int, width: int, base: Style) -> Strip:
        lines = self.empty.splitlines()
        if self.query_text:
            clear = hint("view.back", "esc")
            lines = [f"0 of {len(self.items)} match {self.query_text!r}; {clear} clears the filter"]
        text = one_line(f" {lines[at]}") if at < len(lines) else ""
        return Strip([Segment(set_cell_size(text, width), base + self._ink("empty"))])

    def _row(self, item: T, current: bool, part: int, width: int, base: Style) -> Strip:
        ground = marked = base
        if current:
            name = "table--cursor" if self.has_focus else "table--cursor-blur"
            marked = base + self.get_component_rich_style(name)
            ground = base if self._cells else marked
        segments = []
        for column, wide in self._layout():
            cell = column.cell(item)
            style = marked if self._cells and column is self.current_column else ground
            text, ink = (cell.text, cell.style) if part == 0 else (cell.below, "dim")
            if ink:
                style += self._ink(ink)
            segments += [
                Segment(_fit(one_line(text), wide, column.right), style),
                Segment(" ", ground),
            ]
        return Strip(segments).adjust_cell_length(width, ground)


def _fit(text: str, width: int, right: bool) -> str:
    length = cell_len(text)
    if length > width:
        cut = "…" if width > 1 else ""
        return set_cell_size(text, max(0, width - len(cut))) + cut
    return text.rjust(width - length + len(text)) if right else set_cell_size(text, width)
