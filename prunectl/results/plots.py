"""Figures like the papers': score and change from dense over compression, score over search cost, layers.

    figure = plot(paths, "wrn")                           # score against compression, a panel per board
    save(figure, Path("wrn.pdf"))

The numbers are those of `leaderboard`. Methods differ in colour (Okabe and Ito's, told apart by the colour-blind),
marker and line style, so that a figure can be read in greyscale. The same store gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from prunectl.errors import ControlError, PrunectlError
from prunectl.results import figure_style, metrics, published_lines
from prunectl.results.cells import Shown
from prunectl.results.figure_style import Style, panel_title
from prunectl.results.layer_density import draw_layers
from prunectl.results.leaderboard import Board, BoardRow, Cell, leaderboard
from prunectl.results.published_lines import Lines
from prunectl.spec.task import Metric
from prunectl.store.files import replacing
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["score", "delta", "cost", "layers"]
Asked = Kind | Literal["accuracy"]
"""What may be asked for: `accuracy` is another word for `score`, whatever the task."""
Band = Literal["min-max", "std"]

_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""By the file's suffix: Matplotlib writes the time and its version into a file unless told not to."""

BEYOND = 1.5
"""How much further than our largest compression published lines are shown."""


def plot(
    paths: StorePaths,
    plan: str | None = None,
    kind: Asked = "score",
    *,
    band: Band = "min-max",
    source: str | None = "auto",
    **only: Unpack[Shown],
) -> Figure:
    """Draw a figure with a panel per board of a plan (the last one used, unless named), or of all plans.

    `source` is the publication that is shown in grey behind ours: its name, None, or "auto" for the first that has
    the network and data set. Raises ControlError where there is nothing to draw, StoreError where the store cannot
    be read.
    """
    boards = drawable(paths, plan, **only)
    return draw(paths, boards, kind_of(kind), band=band, source=source)


def kind_of(asked: Asked) -> Kind:
    """Return what kind of figure is asked for."""
    return "score" if asked == "accuracy" else asked


def drawable(paths: StorePaths, plan: str | None, **only: Unpack[Shown]) -> list[Board]:
    """Query the boards of `leaderboard` that have a number. Raises ControlError where there are none."""
    boards = [board for board in leaderboard(paths, plan, **only) if board.n]
    if not boards:
        raise ControlError(f"nothing to draw yet: no pruned network of {paths.root} is done")
    return boards


def draw(
    paths: StorePaths, boards: Sequence[Board], kind: Kind, *, band: Band, source: str | None
) -> Figure:
    """Draw a figure of these boards, each of which has a number. Raises what `plot` raises."""
    if kind == "layers":
        return draw_layers(paths, boards)
    styles = figure_style.styles(row.label for board in boards for row in board.rows)
    with figure_style.settings():
        sheet = figure_style.Sheet(len(boards))
        behind = []
        for axes, board in zip(sheet.panels, boards, strict=True):
            lines = published_lines.lines(paths, board, source) if kind != "cost" else None
            behind.append(lines)
            _panel(axes, board, kind, band, styles)
            if lines is not None:
                _published(axes, lines, kind, styles)
            axes.set_title(panel_title(boards, board))
            if kind == "cost":
                axes.set_xlabel("retraining so far (epochs)")
            else:
                figure_style.compression_axis(axes)
                axes.set_xlabel("compression (prunable weights, dense / kept)")
            axes.set_ylabel(vertical(kind, board.metric))
        sheet.finish(_caption(boards, kind, band, [each for each in behind if each]))
        return sheet.figure


def vertical(kind: Kind, metric: Metric) -> str:
    """Label the vertical axis of a panel."""
    if kind == "delta":
        return f"change from own dense network ({metrics.difference_unit(metric)})"
    return metrics.axis(metric)


def _panel(axes: Axes, board: Board, kind: Kind, band: Band, styles: dict[str, Style]) -> None:
    """Draw our methods, and the dense network where it belongs."""
    # In the order of the legend, which is the same in all panels.
    for row in sorted(board.rows, key=lambda row: list(styles).index(row.label)):
        cells = [cell for cell in row.cells.values() if cell.n]
        if kind != "cost":  # a damaged count gives none, or 0, which a logarithmic axis has not
            cells = [cell for cell in cells if _number(cell, "compression") > 0]
        cells.sort(key=lambda cell: _number(cell, "compression"))
        if cells:
            _line(axes, row, cells, kind, band, styles[row.label])
    dense = board.dense
    if kind == "delta":
        _dense_line(axes, 0)
    elif dense is not None and dense.n:
        _, centre, _ = _spread(dense, kind, band)
        _dense_line(axes, centre)
        axes.annotate(
            f"dense {board.metric.text(centre)}", (1, centre), xycoords=("axes fraction", "data"), xytext=(-3, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=7.5, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _dense_line(axes: Axes, y: float) -> None:
    axes.axhline(y, color="black", linewidth=0.8, linestyle=figure_style.DENSE_DASHES, zorder=1)


def _line(
    axes: Axes, row: BoardRow, cells: list[Cell], kind: Kind, band: Band, style: Style
) -> None:
    x = [_number(cell, "search_epochs" if kind == "cost" else "compression") for cell in cells]
    low, centres, high = zip(*(_spread(cell, kind, band) for cell in cells), strict=True)
    axes.plot(x, centres, label=row.label, **style.line())
    if kind == "cost":
        spread = [[c - a for c, a in zip(centres, low, strict=True)],
                  [b - c for c, b in zip(centres, high, strict=True)]]  # fmt: skip
        axes.errorbar(x, centres, yerr=spread, fmt="none", ecolor=style.colour, elinewidth=0.8)
        compression = _number(cells[-1], "compression")
        figure_style.name_end(axes, x[-1], centres[-1], compression, style)
    else:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.16, linewidth=0, zorder=1.5)


def _number(cell: Cell, name: str) -> float:
    value = cell.values[name]
    return math.nan if value is None else float(value)


def _spread(cell: Cell, kind: Kind, band: Band) -> tuple[float, float, float]:
    """Compute a cell's low end, centre and high end; of its change from dense, the mean and its 95 % interval."""
    if kind == "delta":
        centre, half = _number(cell, "delta"), cell.delta_ci or 0.0  # no interval below two pairs
    elif band == "std":
        centre, half = _number(cell, "mean"), cell.std or 0.0
    else:
        return _number(cell, "min"), _number(cell, "median"), _number(cell, "max")
    return centre - half, centre, centre + half


def _published(axes: Axes, found: Lines, kind: Kind, styles: dict[str, Style]) -> None:
    """Draw published curves in grey behind ours, and widen the axis for them by a quarter at the most."""
    low, high = axes.get_ylim()
    right = axes.dataLim.x1
    for strategy, curve in found.by_strategy.items():
        samples = [sample for sample in curve if sample.compression <= BEYOND * right]
        values = [sample.delta if kind == "delta" else sample.median for sample in samples]
        axes.plot(
            [sample.compression for sample in samples], values,
            **figure_style.grey(styles.get(strategy)), label=f"{strategy}, {found.source}",
        )  # fmt: skip
    # Their dense networks differ from ours by up to 0.75 points, which must not flatten our curves.
    room = (high - low) / 4
    bottom, top = axes.dataLim.y0, axes.dataLim.y1
    axes.set_ylim(
        max(low - room, min(low, bottom - room / 5)), min(high + room, max(high, top + room / 5))
    )


def _caption(boards: Sequence[Board], kind: Kind, band: Band, behind: Iterable[Lines]) -> str:
    """Write what the lines and bands are, and how many seeds they rest on."""
    n = figure_style.count_text(row for board in boards for row in board.rows)
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
    if chosen := dict.fromkeys(row.label for board in boards for row in board.rows if row.selected):
        together = ", its cost that of all options" if kind == "cost" else ""
        what += f"\n{', '.join(chosen)}: chosen by validation for each seed{together}"
    sources = {each.source: each.note for each in behind}
    for source, note in sources.items():
        names = " or ".join(dict.fromkeys(board.metric.name for board in boards))
        centre = f"medians minus their mean dense {names}" if kind == "delta" else "medians"
        what += f"\ngrey: {source}, {centre}{note}"
    return what


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the file's suffix: .png .svg .pdf. The same figure gives the same bytes.

    Raises PrunectlError for another suffix, StoreError where the file cannot be written.
    """
    if path.suffix not in _METADATA:
        raise PrunectlError(
            f"unknown suffix {path.suffix!r} of {path.name}; allowed: {', '.join(_METADATA)}"
        )
    form = path.suffix.removeprefix(".")
    with figure_style.settings(), replacing(path) as temporary:
        figure.savefig(temporary, format=form, metadata=_METADATA[path.suffix])
