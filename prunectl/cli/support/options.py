"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prunectl.scheduler.devices.base import SlotsBy
from prunectl.spec.ranges import MOST_SLOTS

TableFormat = Literal["table", "json", "csv", "md", "latex"]

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of results. Default: PRUNECTL_STORE, then ./store.",
        show_default=False,
        readable=False,  # not checked here: whoever opens it says what stands in the way, with exit status 3
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of data sets. Default: PRUNECTL_DATA, then the user's cache.",
        show_default=False,
    ),
]
VersionOption = Annotated[
    int | None,
    typer.Option(
        "--version",
        min=1,
        metavar="N",
        help="This version of the plan; `prunectl status` lists them. Default: the one used last.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key of the plan: dotted.key=VALUE (repeatable)."),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Another name for the plan, as if `name = NAME` stood in the file, which is not touched.",
        show_default=False,
    ),
]


def _slots(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isdecimal() and len(text) <= len(str(MOST_SLOTS)) and 1 <= int(text) <= MOST_SLOTS:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither a number from 1 to {MOST_SLOTS} nor auto")


SlotsByOption = Annotated[
    SlotsBy | None,
    typer.Option(
        "--slots-by",
        help="What the slots of a CUDA device are: streams of one worker process, or a process each. Default: the "
        "plan's, then streams.",
        show_default=False,
    ),
]
SlotsOption = Annotated[
    Any,
    typer.Option(
        "--slots",
        parser=_slots,
        metavar="N|auto",
        help="Stages at a time on each device; auto: found by measuring. Default: the plan's, then one on a "
        "CUDA device and one per core on the CPU.",
        show_default=False,
    ),
]
