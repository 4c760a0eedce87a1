"""`retry`: try failed and cancelled trials again."""

from __future__ import annotations

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.scheduler_requests import Trials, Where, change_trials


def retry(trials: Trials = None, where: Where = None, store: StoreOption = None) -> None:
    """Try failed and cancelled trials again."""
    change_trials("retry", trials, where, store)
