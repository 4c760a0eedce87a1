"""How long work on a store tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Hears what is done ("stages checked"), with how many so far, and of how many."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""
