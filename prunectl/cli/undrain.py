"""`undrain`: give a device back to a run."""

from __future__ import annotations

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.scheduler_requests import ask_scheduler


def undrain(device: str, store: StoreOption = None) -> None:
    """Use a device again."""
    from prunectl.store.records.requests import Undrain

    ask_scheduler(store, Undrain(device=device))
