"""How numbers are written for people: in logs, on the terminal, in the terminal UI and in tables alike."""

from __future__ import annotations

import math
import os

DASH = "–"
"""What stands for a number that is not known."""


def finite(value: object) -> float | None:
    """Convert to a float; None for anything else: text, None, bool, not a number, infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def number(value: object, digits: int = 2) -> str:
    """Write with fixed digits; ``nan`` and ``inf`` as such, because they mean that something went wrong."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "−inf"
    known = finite(value)
    return DASH if known is None else f"{known:.{digits}f}"


def short(value: object) -> str:
    """Write three digits and a letter: ``943``, ``6.15k``, ``1.2M``."""
    known = finite(value)
    if known is None:
        return DASH
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(known) >= size:
            return f"{known / size:.3g}{letter}"
    return f"{known:.3g}"


def sparsity(value: object) -> str:
    """Write a sparsity as plans do, with at most four digits: ``0.9424``."""
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return DASH


def signed(value: object, digits: int = 2) -> str:
    """``+0.31``, ``−1.20`` (with U+2212, not a hyphen)."""
    known = finite(value)
    return DASH if known is None else f"{known:+.{digits}f}".replace("-", "−")


def duration(seconds: object) -> str:
    """``47s``, ``3m04``, ``2h15``, ``3d04h``."""
    known = finite(seconds)
    if known is None:
        return DASH
    whole = max(0, round(known))  # a forecast that is overdue is 0s, not negative
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(count: float | None) -> str:
    """Bytes as ``312 B``, ``4.2 MB``, ``1.3 GB`` (powers of 1000)."""
    if count is None:
        return DASH
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def plural(count: int, word: str) -> str:
    """``1 trial``, ``3 trials``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def version_title(plan: str, version: int, versions: int) -> str:
    """``q``, or ``q v2`` where the plan has several versions."""
    return f"{plan} v{version}" if versions > 1 else plan


def printable(text: str | os.PathLike[str]) -> str:
    """Write a name or a foreign text as it can stand in any message: what cannot be printed is escaped.

    Names of files may hold line breaks, a terminal's commands, and bytes that are no text (which `os.fsdecode` makes
    surrogates of).
    """
    found = os.fspath(text)
    if found.isprintable():
        return found
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in found
    )
