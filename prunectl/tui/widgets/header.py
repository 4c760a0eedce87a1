"""The two lines on top: which view this is, of what, and how the run stands."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.message import Message
from textual.style import Style
from textual.widgets import Static

from prunectl.tui.status_lines import MODES, Part, width_of

COLOURS = {
    "": "",
    "tab": "bold $accent",
    "dim": "$foreground 70%",  # $text-muted is relative to its background, which content does not know
    "good": "$text-success",
    "bad": "bold $text-error",
    "warn": "$text-warning",
    "accent": "$primary",
}
"""By name of a part's style."""


class Header(Static):
    """Tabs to click and two lines of text; drawn again only where they change."""

    ALLOW_SELECT = False

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

    def __init__(self, current: str, crumb: str = "") -> None:
        """`current` is the name of the view, as in `MODES`; a view below those has a `crumb` instead of tabs."""
        super().__init__()
        self.current = current
        self.crumb = crumb
        self._shown: list[Part] = []

    def show(self, context: str, banner: str, status: list[Part]) -> None:
        """Show `context` on the right of the first line with `banner` before it, and `status` on the second."""
        first = self._left()
        right: list[Part] = [(f" {banner} ", "warn")] if banner else []
        room = self.size.width - width_of(first) - width_of(right) - 3
        right.append((f" {context[-room:] if room > 8 else ''} ", "dim"))
        gap = max(0, self.size.width - width_of(first) - width_of(right))
        parts = [*first, (" " * gap, ""), *right, ("\n ", ""), *status]
        if parts != self._shown:
            self._shown = parts
            tabs = {self._tab(key, mode)[0]: mode for key, mode in MODES}
            self.update(Content("").join(_content(part, tabs.get(part[0])) for part in parts))

    def _left(self) -> list[Part]:
        name = " prunectl " if self.size.width >= 100 else ""
        if self.crumb:
            room = self.size.width - len(name) - 2
            return [(name, "dim"), (f" {self.crumb[:room]} ", "tab")]
        tabs = (part for key, mode in MODES for part in (self._tab(key, mode), (" ", "")))
        return [(name, "dim"), *tabs]

    def _tab(self, key: str, mode: str) -> Part:
        return (f"[{key} {mode}]", "tab") if mode == self.current else (f" {key} {mode} ", "")

    def on_click(self, event: events.Click) -> None:
        """Report the tab that was clicked."""
        if mode := event.style.meta.get("mode"):
            self.post_message(self.Chosen(mode))


def _content(part: Part, mode: str | None) -> Content:
    text, style = part
    content = Content.styled(text, COLOURS[style])
    return content.stylize(Style.from_meta({"mode": mode})) if mode else content
