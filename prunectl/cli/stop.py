"""`stop`: end the running scheduler."""

from __future__ import annotations

from typing import Annotated

import typer

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.scheduler_requests import ask_scheduler


def stop(
    now: Annotated[bool, typer.Option("--now", help="Without finishing the epoch.")] = False,
    store: StoreOption = None,
) -> None:
    """Ask the running scheduler to finish its epochs, checkpoint and end."""
    from prunectl.store.records.requests import Stop

    ask_scheduler(store, Stop(now=now))
