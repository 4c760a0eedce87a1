"""A method's numbers as a line with its intervals: where points are, bands and bars, the frame around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Literal

from prunectl.results import figure_style
from prunectl.results.board_cell import Cell
from prunectl.results.figure_style import Style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Kind = Literal["score", "delta", "cost", "macs", "layers"]
Band = Literal["ci", "min-max", "std"]
"""What is drawn around a line: 95 % interval of the mean, all seeds around their median, or ± std around the mean."""
COSTS = ("cost", "macs")
"""Kinds of figures over what a network costs, to train or to use."""

BANDS = {
    "ci": "95 % interval of the mean over the seeds (Student's t)",
    "min-max": "min–max of the seeds",
    "std": "± sample standard deviation",
}
"""What a band is, for the caption."""


def horizontal(cell: Cell, kind: Kind) -> float:
    """Return where a cell is drawn; not a number where that is not known."""
    if kind == "macs":
        macs = number(cell, "macs")
        return number(cell, "macs_dense") / macs if macs else math.nan
    return number(cell, "total_epochs" if kind == "cost" else "compression")


def draw_line(
    axes: Axes, name: str, cells: list[Cell], kind: Kind, band: Band, style: Style, shift: float
) -> None:
    """Draw a method's line with its band, or bars where a band has no width.

    `shift` is how far it is drawn to the right, in points.
    """
    from matplotlib.transforms import ScaledTranslation

    x = [horizontal(cell, kind) for cell in cells]
    low, centres, high = zip(*(spread(cell, kind, band) for cell in cells), strict=True)
    drawn: list[Artist] = [*axes.plot(x, centres, label=name, **style.line())]
    known = [i for i, end in enumerate(low) if math.isfinite(end)]
    barred = [i for i in known if not any(j in known and x[j] != x[i] for j in (i - 1, i + 1))]
    if len(barred) < len(known):
        axes.fill_between(x, low, high, color=style.colour, alpha=0.16, linewidth=0, zorder=1.5)
    for i in barred:
        bar = axes.errorbar(
            x[i], centres[i], yerr=[[centres[i] - low[i]], [high[i] - centres[i]]], fmt="none",
            ecolor=style.colour, elinewidth=0.8,
        )  # fmt: skip
        drawn += bar.get_children()
    # Moved once they are drawn: the axes' limits are those of the numbers.
    where = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    for artist in drawn if shift else ():
        artist.set_transform(where)


def name_ends(
    axes: Axes, drawn: Sequence[tuple[str, list[Cell]]], kind: Kind, band: Band, looks: Mapping[str, Style],
    aside: Mapping[str, float],
) -> str:  # fmt: skip
    """Write the compression beside the end of each line; or return it where it is the same for all."""
    ends = {name: f"{number(cells[-1], 'compression'):.3g}×" for name, cells in drawn}
    if len({*ends.values()}) == 1:
        return f"lines end at {next(iter(ends.values()))}"
    for name, cells in drawn:
        end = (horizontal(cells[-1], kind), spread(cells[-1], kind, band)[1])
        beside = (aside[name], -9.0) if name in aside else (5.0, 0.0)
        figure_style.name_end(axes, end, ends[name], looks[name], beside)
    return ""


def shifts(drawn: Iterable[tuple[str, list[Cell]]], kind: Kind) -> dict[str, float]:
    """Return how many points aside methods are drawn all of whose networks cost the same, as those of one-shot pruning
    do: their lines would hide one another."""
    beside: dict[float, list[str]] = {}
    for name, cells in drawn:
        costs = {horizontal(cell, kind) for cell in cells}
        if kind == "cost" and len(cells) > 1 and len(costs) == 1:
            beside.setdefault(costs.pop(), []).append(name)
    return {
        name: BESIDE * (place - (len(names) - 1) / 2)
        for names in beside.values()
        for place, name in enumerate(names)
    }


BESIDE = 8.0
"""Points between them."""


def number(cell: Cell, name: str) -> float:
    """Return a column of a cell; not a number where it is not known."""
    value = cell.values[name]
    return math.nan if value is None else float(value)


def spread(cell: Cell, kind: Kind, band: Band) -> tuple[float, float, float]:
    """Compute a cell's low end, centre and high end; the ends are not numbers where so few seeds have none."""
    if kind == "delta":
        centre, half = number(cell, "delta"), cell.delta_ci
    elif band == "min-max":
        return number(cell, "min"), number(cell, "median"), number(cell, "max")
    else:
        centre, half = number(cell, "mean"), cell.std if band == "std" else cell.ci
    half = math.nan if half is None else half
    return centre - half, centre, centre + half


ROOM = 3
"""Standard deviations beyond the lines that a panel has room for: the 95 % interval of three seeds reaches 2.5, that of
two seeds 9."""


def frame(
    axes: Axes,
    cells: Sequence[Cell],
    kind: Kind,
    band: Band,
    dense: Sequence[float],
    theirs: Sequence[float],
) -> bool:
    """Set the vertical axis so that lines can be read, however wide the bands are. Returns whether some are cut off.

    Bands have half the height of our lines beyond them, or `ROOM` standard deviations; published lines a quarter of
    all that, for their dense networks differ from ours by up to 0.75 points.
    """
    spreads = [spread(cell, kind, band) for cell in cells]
    lines = [y for y in (*dense, *(centre for _, centre, _ in spreads)) if math.isfinite(y)]
    ends = [end for low, _, high in spreads for end in (low, high) if math.isfinite(end)]
    if not lines:
        return False
    column = "delta_std" if kind == "delta" else "std"
    deviations = [number(cell, column) for cell in cells]
    deviation = median([std for std in deviations if math.isfinite(std)] or [0.0])
    room = max((max(lines) - min(lines)) / 2, ROOM * deviation)
    bottom = max(min(lines) - room, min(lines + ends))
    top = min(max(lines) + room, max(lines + ends))
    if cells and cells[0].metric.unit == "%" and kind != "delta":  # of which there are 0 to 100
        bottom, top = max(bottom, min(0.0, *lines)), min(top, max(100.0, *lines))
    quarter = (top - bottom) / 4
    bottom = max(bottom - quarter, min([bottom, *theirs]))
    top = min(top + quarter, max([top, *theirs]))
    if bottom == top:
        return False
    margin = 0.05 * (top - bottom)
    axes.set_ylim(bottom - margin, top + margin)
    return any(not bottom - margin <= end <= top + margin for end in ends)
