"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of results. Default: PRUNECTL_STORE, then ./store.",
        show_default=False,
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
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key of the plan: dotted.key=VALUE (repeatable)."),
]
PlanArgument = Annotated[Path, typer.Argument(help="A plan: a TOML file.", show_default=False)]
