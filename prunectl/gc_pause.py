"""Pausing Python's cycle collector where it only costs time, or does harm."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collector(*, keep: bool = False) -> Iterator[None]:
    """Collect no cycles inside: among millions of small objects that stay, collections find nothing and take up to
    half of the time.

    With `keep` the collector never visits the objects that exist at the end again: a visit would stop all threads
    for as long as it takes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if keep:
            gc.freeze()
            # Without it extension modules report their objects as leaked.
            atexit.register(gc.unfreeze)
        if enabled:
            gc.enable()
