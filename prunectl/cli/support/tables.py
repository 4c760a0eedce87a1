"""Rich tables and how numbers are written on a terminal."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def console(*, stderr: bool = False) -> Console:
    """The terminal, or plain text where it is none."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        # A file or pipe has no width to fit: nothing is wrapped or cut.
        made = Console(stderr=stderr, highlight=False, width=10_000)
    return made


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, left: Container[int] = (0,)
) -> Table:
    """A plain table: the columns numbered `left` to the left, the others to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        made.add_column(Text(heading), justify="left" if index in left else "right")
    for row in rows:
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return made


def duration(seconds: float | None) -> str:
    """``47s``, ``3m04``, ``2h15``, ``3d04h``; a dash where it is not known."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(count: float | None) -> str:
    """``312 B``, ``4.2 MB``, ``1.3 GB`` (powers of 1000); a dash where it is not known."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
