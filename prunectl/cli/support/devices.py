"""Which devices a command is about, by its options and its plans."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunectl.cli.support.terminal import narrate
from prunectl.errors import PrunectlError
from prunectl.scheduler.devices.base import Device, Slots, SlotsBy, most_slots, parse
from prunectl.scheduler.devices.cards import nvidia_cards
from prunectl.scheduler.devices.driver import VISIBLE
from prunectl.scheduler.devices.missing_cuda import built_for
from prunectl.scheduler.devices.system import SystemLayer
from prunectl.scheduler.devices.torch_build import torch_build

if TYPE_CHECKING:  # the plan's models take 0.3 s to import
    from prunectl.plan.schema import RunTable


def named(option: str | None, tables: Sequence[RunTable]) -> str:
    """Return the devices that the option names, else the first plan that names some, else all."""
    return option or next((table.devices for table in tables if table.devices), "all")


def choose(
    names: str,
    slots: Slots | None,
    slots_by: SlotsBy | None,
    tables: Sequence[RunTable],
    layer: SystemLayer,
) -> list[Device]:
    """Return the devices, with the slots of the option, else of the plans: the most that one asks for, and by what the
    first that says so has them. Raises UnknownName for a device that this host does not have."""
    asked = slots or most_slots(table.slots_per_device for table in tables)
    of_plans: list[SlotsBy] = [table.slots_by for table in tables if table.slots_by is not None]
    by = slots_by or [*of_plans, "streams"][0]
    return parse(names, layer, asked, by)


def check(names: str, chosen: Sequence[Device], layer: SystemLayer) -> None:
    """Say so where a card is not used, and refuse a torch that cannot use one. Raises PrunectlError."""
    if names.strip().lower() == "all" and all(each.kind == "cpu" for each in chosen):
        _note_unused_cards(layer)
    torch = torch_build()
    if torch is not None and torch.cuda is None and any(each.kind == "cuda" for each in chosen):
        raise PrunectlError(
            f"there is a CUDA device, but {built_for(torch)}: install one that is built for CUDA "
            "(https://pytorch.org/get-started), or run with --devices cpu"
        )


def _note_unused_cards(layer: SystemLayer) -> None:
    """Say so where the CPU is used although the machine has an NVIDIA card that nobody has hidden."""
    if os.environ.get(VISIBLE) not in ("", "-1") and nvidia_cards():
        narrate(
            "note: there is an NVIDIA card, but no CUDA device, so the CPU is used\n"
            f"{layer.about_cuda()}"
        )
