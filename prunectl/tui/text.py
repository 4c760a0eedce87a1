"""Write numbers, states and shares for a screen. Nothing here raises: what is not a number becomes a dash."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prunectl.spec.state import State
from prunectl.text import DASH as DASH
from prunectl.text import duration as duration
from prunectl.text import finite as finite
from prunectl.text import number as number
from prunectl.text import plural as plural
from prunectl.text import short as short
from prunectl.text import signed as signed
from prunectl.text import sparsity as sparsity

STATES = {
    State.RUNNING: ("▶", "accent"),
    State.WAITING: ("·", ""),
    State.HELD: ("∥", "warn"),
    State.DONE: ("✓", "good"),
    State.FAILED: ("✗", "bad"),
    State.BLOCKED: ("!", "bad"),
    State.CANCELLED: ("⊘", "dim"),
    State.INTERRUPTED: ("!", "warn"),
}
"""Glyph and style of each state of a trial: the glyph tells states apart where colours do not."""

SPARKS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉"


def clock(moment: object, now: float | None = None) -> str:
    """Write a Unix time as local time of day; with the date where it is more than a day from `now`."""
    known = finite(moment)
    if known is None:
        return DASH
    try:
        local = time.localtime(known)
    except (OverflowError, OSError, ValueError):
        return DASH
    far = now is not None and abs(known - now) > 86400
    return time.strftime("%d %b %H:%M" if far else "%H:%M:%S", local)


def minutes(moment: object, now: float | None = None) -> str:
    """Write a Unix time as `clock` does, to the minute."""
    text = clock(moment, now)
    return text if text == DASH or text.count(":") == 1 else text[:5]


def size(count: object) -> str:
    """Write bytes in GiB: ``21G``, ``0.4G``."""
    known = finite(count)
    if known is None:
        return DASH
    gib = known / 2**30
    return f"{gib:.0f}G" if gib >= 9.5 else f"{gib:.1f}G"


def share(part: float, whole: float) -> float:
    """Return the part of the whole that is there, 0 of nothing."""
    return part / whole if whole else 0.0


def bar(share: object, width: int) -> str:
    """Draw a share of 0 to 1 as a bar of `width` columns, in eighths of a column."""
    known = min(1.0, max(0.0, finite(share) or 0.0))
    whole, rest = divmod(int(known * width * 8), 8)
    text = "█" * whole + (EIGHTHS[rest] if rest else "")
    return text.ljust(width)


def boxed(share: object, width: int) -> str:
    """Draw a bar between two edges, `width` columns with them."""
    return f"▕{bar(share, width - 2)}▏"


def spark(
    values: Iterable[object], width: int, low: float | None = None, high: float | None = None
) -> str:
    """Draw the last `width` values as a line of blocks; what is not a number leaves a gap.

    Scaled to `low` and `high`, or to the values' own range; values that are all equal are drawn at mid-height.
    """
    last = [finite(value) for value in values][-width:] if width > 0 else []
    known = [value for value in last if value is not None]
    if not known:
        return ""
    bottom = min(known) if low is None else low
    top = max(known) if high is None else high

    def block(value: float | None) -> str:
        if value is None:
            return " "
        if top <= bottom:
            return SPARKS[3]
        share = min(1.0, max(0.0, (value - bottom) / (top - bottom)))
        return SPARKS[round(share * (len(SPARKS) - 1))]

    return "".join(map(block, last))
