"""`cancel`: stop trials until `retry`."""

from __future__ import annotations

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.scheduler_requests import Trials, Where, change_trials


def cancel(trials: Trials = None, where: Where = None, store: StoreOption = None) -> None:
    """Stop trials and leave them, until `retry`; what others share goes on."""
    change_trials("cancel", trials, where, store)
