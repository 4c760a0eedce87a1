"""Python's cycle collector held back where it only costs time, or does harm."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collector(*, keep: bool = False) -> Iterator[None]:
    """No look for cycles inside: among millions of small objects that stay it finds nothing and takes up to half of
    the time. `keep`: it will not look at what there is at the end ever again, which would stop all threads for as
    long as that takes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if keep:
            gc.freeze()
            atexit.register(gc.unfreeze)  # else extension modules take what they made for leaked
        if enabled:
            gc.enable()
