"""The devices of a scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from prunectl.monitor.snapshot import DeviceView
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.keymap import hint


@dataclass(frozen=True)
class DeviceRow:
    """A device, with how busy it was."""

    key: str
    view: DeviceView
    past: tuple[float | None, ...] = ()


def _device_state(row: DeviceRow) -> Cell:
    view = row.view
    if view.state == "drained":
        return Cell(f"drained ({hint('dashboard.drain', 'D')}: use it again)", "warn")
    if view.state == "leased":
        return Cell(f"leased: {view.reason}", "warn")
    busy = len(view.running)
    return Cell(
        f"{busy} of {t.plural(view.slots, 'slot')} busy"
        + (" (auto)" if view.auto else "")
        + (f" · {view.reason}" if view.reason else "")
    )


def _memory(view: DeviceView) -> float | None:
    used, total = t.finite(view.memory_used), t.finite(view.memory_total)
    return used / total if used is not None and total else None


def _watts(view: DeviceView) -> str:
    return t.DASH if t.finite(view.power) is None else f"{view.power:.0f}W"


DEVICES: tuple[Column[DeviceRow], ...] = (
    Column("id", "DEVICE", 7, lambda r: Cell(r.view.id, "bold")),
    Column("name", "NAME", 14, lambda r: Cell(r.view.name), rank=5),
    Column("utilisation", "BUSY", 15, lambda r: Cell(_gauge(r.view.utilisation, 9))),
    Column("memory", "MEMORY", 20, lambda r: Cell(_memory_gauge(r.view)), rank=3),
    Column("temperature", "°C", 3, lambda r: Cell(t.number(r.view.temperature, 0)), right=True, rank=2),
    Column("power", "POWER", 5, lambda r: Cell(_watts(r.view)), right=True, rank=4),
    Column("past", "LAST MINUTE", 14, lambda r: Cell(t.spark(r.past, 14, 0.0, 100.0), "good"), rank=6),
    Column("state", "SLOTS", 16, _device_state, flex=True),
)  # fmt: skip


def _gauge(percent: object, width: int) -> str:
    known = t.finite(percent)
    if known is None:
        return t.DASH
    return f"{t.boxed(known / 100, width)} {known:3.0f}%"


def _memory_gauge(view: DeviceView) -> str:
    share = _memory(view)
    if share is None:
        return t.DASH
    return f"{t.boxed(share, 9)} {t.size(view.memory_used)}/{t.size(view.memory_total)}"
