"""The line at the bottom: the keys that matter most here, in an order that the view chooses, each to be clicked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from textual import events
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

MOST = 8
"""Keys: what more there is, help and the palette show."""


class Keys(Widget):
    """Shows bindings by their ids; those that are not possible now are left out."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"keys--key"}

    def __init__(self, listed: Sequence[str]) -> None:
        super().__init__()
        self.listed = tuple(listed)[:MOST]
        self.shown: tuple[tuple[str, str, str], ...] = ()
        """Key, how it is written, what it does."""

    def on_mount(self) -> None:
        """Follow the focus, which decides what keys do."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self._changed(self.screen)

    def _changed(self, screen: Screen[Any]) -> None:
        if not self.is_attached or screen is not self.screen:
            return
        found = {}
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.id and binding.id not in found and active.enabled:
                found[binding.id] = (
                    binding.key,
                    self.app.get_key_display(binding),
                    binding.description,
                )
        shown = tuple(found[name] for name in self.listed if name in found)
        if shown != self.shown:
            self.shown = shown
            self.refresh()

    def render_line(self, y: int) -> Strip:
        base = self.rich_style
        key_style = base + self.get_component_rich_style("keys--key", partial=True)
        segments = [Segment(" ", base)]
        for _, key, does in self.shown:
            segments += [Segment(key, key_style), Segment(f" {does}  ", base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def width_needed(self) -> int:
        """Columns that all of it takes."""
        return 1 + sum(len(key) + len(does) + 3 for _, key, does in self.shown) - 2

    def on_click(self, event: events.Click) -> None:
        """As if the key had been pressed."""
        at = 1
        for name, key, does in self.shown:
            end = at + len(key) + len(does) + 1
            if at <= event.x < end:
                self.app.simulate_key(name)
            at = end + 2
