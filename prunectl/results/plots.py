"""Figures like the papers': accuracy, change from dense and search cost over compression, and where weights stay.

    figure = plot(paths, "wrn")                           # accuracy against compression, a panel per board
    save(figure, Path("wrn.pdf"))

The numbers are those of `leaderboard`. Methods differ in colour (Okabe and Ito's, told apart by the colour-blind),
marker and line style, so that a figure can be read in greyscale. The same store gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prunectl.errors import ControlError, PrunectlError
from prunectl.results import figure_style as layout
from prunectl.results import published_lines as publication
from prunectl.results.figure_style import Style
from prunectl.results.layer_density import draw_layers, layers_of
from prunectl.results.leaderboard import Board, BoardRow, Cell, leaderboard
from prunectl.store.files import replacing
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["accuracy", "delta", "cost", "layers"]
Band = Literal["min-max", "std"]
KINDS: tuple[Kind, ...] = ("accuracy", "delta", "cost", "layers")
SUFFIXES = (".png", ".svg", ".pdf")

WHAT: dict[Kind, str] = {
    "accuracy": "test accuracy (%)",
    "delta": "change from own dense network (points)",
    "cost": "test accuracy (%)",
    "layers": "density (% of the layer's weights)",
}
"""Labels of the vertical axes."""

BEYOND = 1.5
"""How much further than our largest compression published lines are shown."""


def plot(
    paths: StorePaths,
    plan: str | None = None,
    kind: Kind = "accuracy",
    *,
    network: str | None = None,
    dataset: str | None = None,
    all_plans: bool = False,
    band: Band = "min-max",
    source: str | None = "auto",
) -> Figure:
    """One figure with a panel per board of a plan (the last one used, unless named), or of all plans.

    `source` is the publication that is shown in grey behind ours: its name, None, or "auto" for the first that has
    the network and data set. Raises ControlError where there is nothing to draw, StoreError where the store cannot
    be read.
    """
    boards = leaderboard(paths, plan, network=network, dataset=dataset, all_plans=all_plans)
    return draw(paths, boards, kind, band=band, source=source)


def draw(
    paths: StorePaths,
    boards: Sequence[Board],
    kind: Kind = "accuracy",
    *,
    band: Band = "min-max",
    source: str | None = "auto",
) -> Figure:
    """The figure of these boards; boards without a number are left out. Errors as `plot`."""
    boards = [board for board in boards if board.n]
    if not boards:
        raise ControlError(f"nothing to draw yet: no pruned network of {paths.root} is done")
    if kind == "layers":
        return draw_layers(boards, [layers_of(paths, board) for board in boards])
    styles = layout.styles(row.label for board in boards for row in board.rows)
    with layout.settings():
        sheet = layout.Sheet(len(boards))
        behind = []
        for axes, board in zip(sheet.panels, boards, strict=True):
            lines = publication.lines(paths, board, source) if kind != "cost" else None
            behind.append(lines)
            _panel(axes, board, kind, band, styles)
            if lines is not None:
                _published(axes, lines, kind, styles)
            axes.set_title(sheet.title(boards, board))
            if kind == "cost":
                axes.set_xlabel("retraining so far (epochs)")
            else:
                layout.compression_axis(axes)
                axes.set_xlabel("compression (prunable weights, dense / kept)")
            axes.set_ylabel(WHAT[kind])
        sheet.finish(_caption(boards, kind, band, [each for each in behind if each]))
        return sheet.figure


def _panel(axes: Axes, board: Board, kind: Kind, band: Band, styles: dict[str, Style]) -> None:
    """Our methods, and the dense network where it belongs."""
    for row in sorted(board.rows, key=lambda row: list(styles).index(row.label)):
        cells = [cell for cell in row.cells.values() if cell.n]
        cells.sort(key=lambda cell: _number(cell, "compression"))
        if cells:
            _line(axes, row, cells, kind, band, styles[row.label])
    dense = board.dense
    if kind == "delta":
        axes.axhline(0, color="black", linewidth=0.8, linestyle=layout.DENSE_DASHES, zorder=1)
    elif dense is not None and dense.n:
        centre = _centre(dense, band)
        label = f"dense {centre:.2f} %"
        axes.axhline(centre, color="black", linewidth=0.8, linestyle=layout.DENSE_DASHES, zorder=1)
        axes.annotate(
            label, (1, centre), xycoords=("axes fraction", "data"), xytext=(-3, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=7.5, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _line(
    axes: Axes, row: BoardRow, cells: list[Cell], kind: Kind, band: Band, style: Style
) -> None:
    x = [_number(cell, "search_epochs" if kind == "cost" else "compression") for cell in cells]
    change = kind == "delta"
    centres = [_delta_centre(cell) if change else _centre(cell, band) for cell in cells]
    axes.plot(x, centres, label=row.label, **style.line())
    limits = [_delta_limits(cell) if change else _limits(cell, band) for cell in cells]
    low, high = [limit[0] for limit in limits], [limit[1] for limit in limits]
    if kind == "cost":
        spread = [[c - a for c, a in zip(centres, low, strict=True)],
                  [b - c for c, b in zip(centres, high, strict=True)]]  # fmt: skip
        axes.errorbar(x, centres, yerr=spread, fmt="none", ecolor=style.colour, elinewidth=0.8)
        layout.name_end(axes, x[-1], centres[-1], _number(cells[-1], "compression"), style)
    else:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.16, linewidth=0, zorder=1.5)


def _number(cell: Cell, name: str) -> float:
    value = cell.values[name]
    return math.nan if value is None else float(value)


def _centre(cell: Cell, band: Band) -> float:
    return _number(cell, "mean" if band == "std" else "median")


def _limits(cell: Cell, band: Band) -> tuple[float, float]:
    if band == "min-max":
        return _number(cell, "min"), _number(cell, "max")
    mean, std = _number(cell, "mean"), cell.std or 0.0
    return mean - std, mean + std


def _delta_centre(cell: Cell) -> float:
    return math.nan if cell.delta is None else cell.delta


def _delta_limits(cell: Cell) -> tuple[float, float]:
    """The 95 % interval; none below two pairs."""
    half = cell.delta_ci or 0.0
    return _delta_centre(cell) - half, _delta_centre(cell) + half


def _published(axes: Axes, found: publication.Lines, kind: Kind, styles: dict[str, Style]) -> None:
    """Theirs in grey behind ours, as far as they do not squeeze ours."""
    low, high = axes.get_ylim()
    right = axes.dataLim.x1
    for strategy, curve in found.by_strategy.items():
        samples = [sample for sample in curve if sample.compression <= BEYOND * right]
        style = next((styles[label] for label in styles if label == strategy), None)
        values = [sample.delta if kind == "delta" else sample.median for sample in samples]
        axes.plot(
            [sample.compression for sample in samples], values,
            **layout.grey(style), label=f"{strategy}, {found.source}",
        )  # fmt: skip
    room = (high - low) / 4
    bottom, top = axes.dataLim.y0, axes.dataLim.y1
    axes.set_ylim(
        max(low - room, min(low, bottom - room / 5)), min(high + room, max(high, top + room / 5))
    )


def _caption(
    boards: Sequence[Board], kind: Kind, band: Band, behind: Iterable[publication.Lines]
) -> str:
    """What the lines and bands are, and how many seeds they rest on."""
    counts = sorted({c.n for b in boards for row in b.rows for c in row.cells.values() if c.n})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    if kind == "delta":
        what = (
            f"mean of the seeds' changes, each from its own dense network; band: 95 % interval; {n}"
        )
    else:
        bars = "bars" if kind == "cost" else "band"
        lines = {"min-max": "median", "std": "mean"}[band]
        spread = {"min-max": "min–max of the seeds", "std": "± sample standard deviation"}[band]
        what = f"{lines} of the seeds, last epoch; {bars}: {spread}; {n}"
    if kind == "cost":
        what += "; at the end of each line: compression"
    sources = {each.source: each.note for each in behind}
    for source, note in sources.items():
        centre = "medians minus their mean dense accuracy" if kind == "delta" else "medians"
        what += f"\ngrey: {source}, {centre}{note}"
    return what


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the file's suffix: .png .svg .pdf. The same figure gives the same bytes.

    Raises PrunectlError for another suffix, StoreError where the file cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise PrunectlError(
            f"unknown suffix {path.suffix!r} of {path.name}; allowed: {', '.join(SUFFIXES)}"
        )
    form = path.suffix.removeprefix(".")
    # Matplotlib writes the time and its version into the file unless told not to.
    silent: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    with layout.settings(), replacing(path) as temporary:
        figure.savefig(temporary, format=form, metadata=silent[form])
