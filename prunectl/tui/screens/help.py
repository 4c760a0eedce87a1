"""Help: every key of the view it was called from, narrowed as the user types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, TextArea

from prunectl.tui.columns import Cell, Column
from prunectl.tui.widgets.table import KeyedTable

PLACES = ("this view", "here", "everywhere")
"""Of keys, in the order of the list: the screen, the focused panel, the program."""


@dataclass(frozen=True)
class Key:
    """The keys of one action of a view."""

    key: str
    """The action's id."""
    keys: str
    does: str
    where: str
    """One of `PLACES`."""
    active: ActiveBinding
    """Its action, what carries that, and whether it is enabled now: where not, the key is shown dim."""


COLUMNS: tuple[Column[Key], ...] = (
    Column("keys", "KEY", 14, lambda k: Cell(k.keys, "accent" if k.active.enabled else "dim")),
    Column("does", "WHAT IT DOES", 30, lambda k: Cell(k.does, "" if k.active.enabled else "dim"), flex=True),
    Column("id", "ACTION", 22, lambda k: Cell(k.key, "dim"), rank=1),
    Column("where", "WHERE", 12, lambda k: Cell(k.where, "dim")),
)  # fmt: skip


def keys_of(screen: Screen[Any]) -> list[Key]:
    """Return what keys do now on a screen."""
    found: dict[str, Key] = {}
    for active in screen.active_bindings.values():
        node, binding = active.node, active.binding
        if not binding.id and not isinstance(node, TextArea):
            continue  # Textual's own, which say nothing about this program
        name = binding.id or binding.action
        shown = screen.app.get_key_display(binding)
        known = found[name].keys.split(" ") if name in found else []
        keys = " ".join(dict.fromkeys([*known, shown]))
        if does := words_of(binding):
            where = PLACES[0 if node is screen else 2 if node is screen.app else 1]
            found[name] = Key(name, keys, does, where, active)
    return sorted(found.values(), key=lambda key: PLACES.index(key.where))


def words_of(binding: Binding) -> str:
    """Say what a key does, beginning with the word of the footer."""
    if not binding.tooltip or binding.tooltip.startswith(binding.description):
        return binding.tooltip or binding.description
    return f"{binding.description}: {binding.tooltip}"


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
            hint = "type to filter: a key, or what it does"
            yield Input(placeholder=hint, id="help-filter", compact=True)
            yield KeyedTable(COLUMNS, id="help-keys", title="Keys")

    def on_mount(self) -> None:
        """Focus the filter, so that typing narrows the list at once."""
        table = self.query_one(KeyedTable)
        table.apply(self.listed)
        table.describe("Keys", self.note)
        self.query_one(Input).focus()

    def action_move(self, step: int) -> None:
        """Move the list while the filter keeps the focus."""
        self.query_one(KeyedTable).action_move(step)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter."""
        self.query_one(KeyedTable).filter(event.value)
