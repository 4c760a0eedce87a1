"""`drain`: take a device away from a run."""

from __future__ import annotations

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.scheduler_requests import ask_scheduler


def drain(device: str, store: StoreOption = None) -> None:
    """Move stages off a device and give it back, until `undrain`."""
    from prunectl.store.records.requests import Drain

    ask_scheduler(store, Drain(device=device))
