"""Help: every key of the view it was called from, narrowed as one types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from prunectl.tui.columns import Cell, Column
from prunectl.tui.widgets.table import KeyedTable


@dataclass(frozen=True)
class Key:
    """One key of a view."""

    id: str
    keys: str
    does: str
    where: str
    off: bool = False
    """Not possible now: shown dim."""


COLUMNS: tuple[Column[Key], ...] = (
    Column("keys", "KEY", 14, lambda k: Cell(k.keys, "dim" if k.off else "accent")),
    Column("does", "WHAT IT DOES", 30, lambda k: Cell(k.does, "dim" if k.off else ""), flex=True),
    Column("id", "ACTION", 22, lambda k: Cell(k.id, "dim"), rank=1),
    Column("where", "WHERE", 12, lambda k: Cell(k.where, "dim")),
)


class Help(ModalScreen[None]):
    """The list of keys, with a filter that has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1", "dismiss(None)", "Back", show=False, id="help.back"),
        Binding("up", "move(-1)", "Up", show=False, id="help.up"),
        Binding("down", "move(1)", "Down", show=False, id="help.down"),
    ]

    def __init__(self, keys: Sequence[Key], note: str) -> None:
        super().__init__()
        self.listed = keys
        self.note = note

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog large"):
            yield Input(
                placeholder="type to filter: a key, or what it does", id="help-filter", compact=True
            )
            table: KeyedTable[Key] = KeyedTable(
                COLUMNS, lambda key: key.id, called="help-keys", title="Keys"
            )
            yield table

    def on_mount(self) -> None:
        """Typing filters at once."""
        table = self.query_one(KeyedTable)
        table.apply(self.listed)
        table.describe("Keys", self.note)
        self.query_one(Input).focus()

    def action_move(self, step: int) -> None:
        """Move the list while the filter keeps the focus."""
        table = self.query_one(KeyedTable)
        table.move_to(table.cursor + step)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter."""
        self.query_one(KeyedTable).filter(event.value)
