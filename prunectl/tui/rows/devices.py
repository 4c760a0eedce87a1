"""The devices of a scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from prunectl.store.records.heartbeat import DeviceBeat
from prunectl.text import duration
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.keymap import hint

OLD_SECONDS = 10.0
"""Age from which on it is told of what a device does: usually a beat or two."""


@dataclass(frozen=True)
class DeviceRow:
    """A device, with its utilisation over the last minute, percent, oldest first."""

    key: str
    view: DeviceBeat
    past: tuple[float | None, ...] = ()


def _slots(view: DeviceBeat) -> Cell:
    if view.state == "drained":
        why = "" if view.reason in ("", "on request") else f" {view.reason}"
        return Cell(f"drained ({hint('dashboard.drain', 'D')}: use it again){why}", "warn")
    if view.state == "leased":
        return Cell(f"leased: {view.reason}", "warn")
    busy = f"{len(view.running)} of {t.plural(view.slots, 'slot')} busy"
    auto = " (auto)" if view.auto else ""
    old = f" · readings are {duration(view.age)} old" if view.age >= OLD_SECONDS else ""
    return Cell(busy + auto + (f" · {view.reason}" if view.reason else "") + old)


def _utilisation(view: DeviceBeat) -> str:
    known = t.finite(view.utilisation)
    return t.DASH if known is None else f"{t.boxed(known / 100, 9)} {known:3.0f}%"


def _memory(view: DeviceBeat) -> str:
    used, total = t.finite(view.memory_used), t.finite(view.memory_total)
    if used is None or not total:
        return t.DASH
    return f"{t.boxed(used / total, 9)} {t.size(used)}/{t.size(total)}"


def _watts(view: DeviceBeat) -> str:
    return t.DASH if t.finite(view.power) is None else f"{view.power:.0f}W"


DEVICES: tuple[Column[DeviceRow], ...] = (
    Column("id", "DEVICE", 7, lambda r: Cell(r.view.id, "bold")),
    Column("name", "NAME", 14, lambda r: Cell(r.view.name), rank=5),
    Column("utilisation", "BUSY", 15, lambda r: Cell(_utilisation(r.view))),
    Column("memory", "MEMORY", 20, lambda r: Cell(_memory(r.view)), rank=3),
    Column("temperature", "°C", 3, lambda r: Cell(t.number(r.view.temperature, 0)), right=True, rank=2),
    Column("power", "POWER", 5, lambda r: Cell(_watts(r.view)), right=True, rank=4),
    Column("past", "LAST MINUTE", 14, lambda r: Cell(t.spark(r.past, 14, 0.0, 100.0), "good"), rank=6),
    Column("state", "SLOTS", 16, lambda r: _slots(r.view), flex=True),
)  # fmt: skip
