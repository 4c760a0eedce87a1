"""`priority`: change the order in which trials run."""

from __future__ import annotations

from typing import Annotated

import typer

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.scheduler_requests import Trials, Where, change_trials
from prunectl.spec.ranges import SMALL


def priority(
    value: Annotated[
        int,
        typer.Option("--to", min=-SMALL, max=SMALL, help="Higher runs first; the default is 0."),
    ],
    trials: Trials = None,
    where: Where = None,
    store: StoreOption = None,
) -> None:
    """Run trials earlier or later than the others."""
    change_trials("priority", trials, where, store, value)
