"""Style of figures: sizes, colours, markers, axes of ratios, panels with one legend and one caption."""

from __future__ import annotations

import contextlib
import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prunectl.results.leaderboard import BoardRow

DENSE_DASHES = (0, (1, 2))
LEGEND_LINE = 0.19
"""Inches of a legend's or caption's line."""

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.hashsalt": "prunectl",  # ids inside an SVG are random otherwise
    "pdf.fonttype": 42,  # text that stays text; journals refuse type 3
    "path.simplify": False,
}


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Apply Matplotlib's own defaults and ours instead of the user's settings, and restore those afterwards."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)  # type: ignore[arg-type,unused-ignore]
        yield


@dataclass(frozen=True)
class Style:
    """How a method is drawn; each of the three alone distinguishes it from the others."""

    colour: str
    marker: str
    dashes: tuple[int, tuple[float, ...]] | str
    filled: bool = True
    """Whether the marker is."""

    def of_schedule(self, number: int) -> Style:
        """Return the style of the same method under one of several schedules, numbered from 0."""
        dashes = _SCHEDULES[number % len(_SCHEDULES)]
        return replace(self, dashes=dashes, filled=number % 2 == 0)

    def line(self) -> dict[str, Any]:
        """Arguments of `Axes.plot`."""
        drawn = {
            "color": self.colour, "marker": self.marker, "linestyle": self.dashes, "linewidth": 1.4,
            "markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 3,
        }  # fmt: skip
        if not self.filled:
            drawn |= {
                "markerfacecolor": "white",
                "markeredgecolor": self.colour,
                "markeredgewidth": 1.0,
            }
        return drawn


_SCHEDULES: tuple[tuple[int, tuple[float, ...]] | str, ...] = (
    "solid", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (4, 1.2, 1, 1.2)),
)  # fmt: skip
"""Lines of schedules that share a panel."""

# Okabe and Ito 2008, "Color Universal Design": told apart with every common colour vision; their yellow is left
# out, for it vanishes on white.
_PALETTE = (
    Style("#0072B2", "o", "solid"),
    Style("#D55E00", "s", (0, (5, 1.5))),
    Style("#009E73", "^", (0, (4, 1.2, 1, 1.2))),
    Style("#CC79A7", "D", (0, (1.2, 1.2))),
    Style("#56B4E9", "v", (0, (7, 2))),
    Style("#E69F00", "P", (0, (4, 1, 1, 1, 1, 1))),
    Style("#000000", "X", (0, (2, 1))),
)

_OWN = ("lr-rewind", "weight-rewind", "fine-tune", "reinit", "weight-rewind-low-lr")
"""Strategies that look the same in every figure: they have the first styles of the palette."""


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Give each method a style, in the order of a legend; after seven, colours repeat with other markers."""
    names = set(labels)
    out = {name: style for name, style in zip(_OWN, _PALETTE, strict=False) if name in names}
    free = [style for style in _PALETTE if style not in out.values()]
    markers = "<>*hdp8"
    for name in sorted(names - out.keys()):
        if free:
            out[name] = free.pop(0)
        else:
            number = len(out)
            base = _PALETTE[number % len(_PALETTE)]
            marker = markers[number % len(markers)]
            out[name] = Style(
                base.colour, marker, _PALETTE[(number + 2 * (number // 7)) % len(_PALETTE)].dashes
            )
    return out


def grey(style: Style | None) -> dict[str, Any]:
    """Make the arguments of `Axes.plot` for a published line behind the one of ours that has this style."""
    return {
        "color": "0.62", "marker": style.marker if style else ".", "linewidth": 1.0, "markersize": 3.2,
        "linestyle": style.dashes if style else "solid", "markerfacecolor": "white",
        "markeredgewidth": 0.7, "zorder": 2,
    }  # fmt: skip


def ratio_axis(axes: Axes) -> None:
    """Make the horizontal axis logarithmic with ticks such as 1×, 2×, 4×: of compression, or of speedup."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    left, right = axes.dataLim.x0, axes.dataLim.x1
    if not 0 < left <= right:  # nothing is drawn over it
        left = right = 1.0
    # From 1×, the dense network, unless that would leave more than an octave empty.
    left = min(left, 1.0) if left < 2 else left
    axes.set_xscale("log", base=2)
    axes.set_xlim(left / 1.06, right * 1.06)
    powers = range(math.ceil(math.log2(left) - 1e-9), math.floor(math.log2(right * 1.06)) + 1)
    step = max(1, math.ceil(len(powers) / 9))  # nine labels fit the width of a panel
    axes.xaxis.set_major_locator(FixedLocator([2.0**k for k in powers if k % step == 0]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))


def name_end(
    axes: Axes, end: tuple[float, float], text: str, style: Style, beside: tuple[float, float]
) -> None:
    """Write a text so many points to the right of and above the last point of a line."""
    axes.annotate(
        text, end, xytext=beside, textcoords="offset points", fontsize=7, color=style.colour,
        ha="left" if beside[1] == 0 else "center", va="center", zorder=4, annotation_clip=False,
    )  # fmt: skip


def count_text(rows: Iterable[BoardRow]) -> str:
    """Write how many seeds the cells of some rows rest on: ``n = 3`` or ``n = 2 to 5``."""
    counts = sorted({cell.n for row in rows for cell in row.cells.values() if cell.n})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


class Sheet:
    """A figure of equal panels in rows, with one legend and one caption below them."""

    WIDTH, HEIGHT = 4.2, 3.0
    """Inches of a panel."""

    def __init__(self, count: int) -> None:
        from matplotlib.figure import Figure

        self.columns = min(count, 3 if count > 4 else 2)
        self.rows = math.ceil(count / self.columns)
        # One panel alone is wider, for the legend and the caption below it.
        width = self.WIDTH * self.columns + (0.8 if self.columns == 1 else 0)
        self.figure: Figure = Figure(figsize=(width, self.HEIGHT * self.rows), layout="constrained")
        self._grid = self.figure.subplots(self.rows, self.columns, squeeze=False)
        every = list(self._grid.flat)
        self.panels: list[Axes] = every[:count]
        for axes in every[count:]:
            axes.set_visible(False)

    def finish(self, caption: str) -> None:
        """Put legend and caption below the panels; the figure grows by their height."""
        entries: dict[str, Any] = {}
        for axes in self.panels:
            handles, labels = axes.get_legend_handles_labels()
            entries |= dict(zip(labels, handles, strict=True))
        width, height = self.figure.get_size_inches()
        # About 15 characters of 7 points fit an inch.
        wide = max(30, int(width * 15))
        lines = [line for text in caption.splitlines() for line in textwrap.wrap(text, wide)]
        # An entry is about 1.6 inches: its line and 16 characters, or as many as the longest has.
        longest = max(map(len, entries), default=0)
        per_row = max(1, int(width // (0.6 + max(1.0, longest / 16))))
        legend_rows = math.ceil(len(entries) / per_row)
        below = LEGEND_LINE * (len(lines) + legend_rows) + 0.15
        self.figure.set_size_inches(width, height + below)
        total = height + below
        layout: Any = self.figure.get_layout_engine()
        layout.set(rect=(0, below / total, 1, height / total))
        if entries:
            self.figure.legend(
                list(entries.values()), list(entries), loc="lower center", ncols=min(per_row, len(entries)),
                bbox_to_anchor=(0.5, (LEGEND_LINE * len(lines) + 0.06) / total), frameon=False,
                handlelength=3.2, borderaxespad=0, borderpad=0, labelspacing=0.3,
            )  # fmt: skip
        self.figure.text(
            0.5, 0.05 / total, "\n".join(lines), ha="center", va="bottom", fontsize=7, color="0.3",
            linespacing=1.4,
        )  # fmt: skip
