"""`hold`: pause trials until `release`."""

from __future__ import annotations

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.scheduler_requests import Trials, Where, change_trials


def hold(trials: Trials = None, where: Where = None, store: StoreOption = None) -> None:
    """Pause trials, until `release`."""
    change_trials("hold", trials, where, store)
