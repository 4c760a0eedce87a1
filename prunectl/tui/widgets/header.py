"""The two lines on top: which view this is, of what, and how the run stands."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from prunectl.tui.status_lines import MODES, Part, width_of


class Masthead(Widget):
    """Tabs to click and two lines of text; drawn anew only where they changed."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "masthead--tab",
        "masthead--dim",
        "masthead--good",
        "masthead--bad",
        "masthead--warn",
        "masthead--accent",
    }

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

    def __init__(self, current: str, crumb: str = "") -> None:
        super().__init__()
        self.current = current
        """Name of the view, as in `MODES`; another one is a view below them."""
        self.crumb = crumb
        self._first: list[Part] = []
        self._second: list[Part] = []

    def show(self, context: str, banner: str, status: list[Part]) -> None:
        """`context` stands on the right of the first line, `banner` before it."""
        first = self._tabs()
        right: list[Part] = [(f" {banner} ", "warn")] if banner else []
        room = self.size.width - width_of(first) - width_of(right) - 3
        right.append((f" {context[-room:] if room > 8 else ''} ", "dim"))
        gap = max(0, self.size.width - width_of(first) - width_of(right))
        first = [*first, (" " * gap, ""), *right]
        second = [(" ", ""), *status]
        if (first, second) != (self._first, self._second):
            self._first, self._second = first, second
            self.refresh()

    def _tabs(self) -> list[Part]:
        name = " prunectl " if self.size.width >= 100 else ""
        parts: list[Part] = [(name, "dim")]
        if self.crumb:
            room = self.size.width - len(name) - 2
            return [*parts, (f" {self.crumb[:room]} ", "tab")]
        for key, mode in MODES:
            parts.append((f"[{key} {mode}]" if mode == self.current else f" {key} {mode} ",
                          "tab" if mode == self.current else ""))  # fmt: skip
            parts.append((" ", ""))
        return parts

    def render_line(self, y: int) -> Strip:
        base = self.rich_style
        parts = (self._first, self._second)[y] if y < 2 else []
        segments = [Segment(text, self._style(name, base)) for text, name in parts]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def _style(self, name: str, base: Style) -> Style:
        if not name:
            return base
        return base + self.get_component_rich_style(f"masthead--{name}")

    def on_click(self, event: events.Click) -> None:
        """A tab was meant."""
        if event.y != 0 or self.crumb:
            return
        at = 0
        modes = [mode for _, mode in MODES]
        for text, _ in self._tabs():
            label = text.strip("[] ")[2:]
            if at <= event.x < at + len(text) and label in modes:
                self.post_message(self.Chosen(label))
            at += len(text)
