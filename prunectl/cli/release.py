"""`release`: end the pause of held trials."""

from __future__ import annotations

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.scheduler_requests import Trials, Where, change_trials


def release(trials: Trials = None, where: Where = None, store: StoreOption = None) -> None:
    """Let held trials go on."""
    change_trials("release", trials, where, store)
