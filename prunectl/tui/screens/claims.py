"""What a plan claimed beforehand, and what its results say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from prunectl.tui.rows.claims import Line
from prunectl.tui.widgets.header import COLOURS


class Claims(ModalScreen[None]):
    """The claims of a plan with their verdicts, in words that wrap."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,v", "dismiss(None)", "Back", show=False, id="claims.back"),
        Binding("up,k", "move(-1)", "Up", show=False, id="claims.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="claims.down"),
    ]

    def __init__(self, title: str, lines: Sequence[Line], note: str) -> None:
        super().__init__()
        self.heading, self.lines, self.note = title, list(lines), note

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog large"):
            yield Static(Content(self.heading), classes="question")
            with VerticalScroll(id="claims"):
                for line in self.lines:
                    yield Static(
                        Content.styled(line.text or " ", COLOURS.get(line.style, line.style))
                    )
            yield Static(Content(self.note), classes="detail")

    def on_mount(self) -> None:
        """Focus the lines, which the arrows scroll."""
        self.query_one(VerticalScroll).focus()

    def action_move(self, step: int) -> None:
        """Scroll by a line."""
        self.query_one(VerticalScroll).scroll_relative(y=step, animate=False)
