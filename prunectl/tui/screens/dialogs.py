"""Small windows over a view: a question with the safe answer chosen, and a list to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, OptionList, Static
from textual.widgets.option_list import Option


class Confirm(ModalScreen[bool]):
    """Asks; returns True only where the button beside the safe one was pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(False)", "Back", show=False, id="confirm.no"),
        Binding("left,right", "app.focus_next", "Other button", show=False, id="confirm.other"),
    ]

    def __init__(self, question: str, detail: str, safe: str, act: str) -> None:
        """`safe` and `act` are the texts of the buttons."""
        super().__init__()
        self.question, self.detail, self.safe, self.act = question, detail, safe, act

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Content(self.question), classes="question")
            yield Static(Content(self.detail), classes="detail")
            with Horizontal(classes="buttons"):
                yield Button(Content(self.safe), id="safe", variant="primary")
                yield Button(Content(self.act), id="act", variant="error")

    def on_mount(self) -> None:
        """Focus the safe button."""
        self.query_one("#safe", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.dismiss(event.button.id == "act")


class Choose(ModalScreen[int | None]):
    """A list of texts; returns the index of the chosen one, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Back", show=False, id="choose.no"),
        Binding("j", "move(1)", "Down", show=False, id="choose.down"),
        Binding("k", "move(-1)", "Up", show=False, id="choose.up"),
    ]

    def __init__(self, title: str, options: Sequence[str]) -> None:
        super().__init__()
        self.heading = title
        self.options = list(options)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Content(self.heading), classes="question")
            yield OptionList(*(Option(Content(text)) for text in self.options))

    def action_move(self, step: int) -> None:
        """Move as the arrows do."""
        options = self.query_one(OptionList)
        (options.action_cursor_down if step > 0 else options.action_cursor_up)()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer."""
        self.dismiss(event.option_index)
