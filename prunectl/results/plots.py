"""Figures like the papers': score and change from dense over compression, score over cost, layers.

    figure = plot(paths, "wrn")                           # score against compression, a panel per board
    save(figure, Path("wrn.pdf"))

Over cost, total epochs or theoretical MACs, one-shot and iterative pruning share a panel: what lies above one another
costs the same.

The numbers are those of `leaderboard`. Methods differ in colour (Okabe and Ito's, told apart by the colour-blind),
marker and line style, so that a figure can be read in greyscale. The same store gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from prunectl.errors import ControlError, PrunectlError
from prunectl.results import figure_style, metrics, published_lines
from prunectl.results.board_cell import Cell
from prunectl.results.cells import Shown
from prunectl.results.curves import (
    BANDS,
    COSTS,
    Band,
    Kind,
    draw_line,
    frame,
    horizontal,
    name_ends,
    number,
    shifts,
    spread,
)
from prunectl.results.figure_style import Style
from prunectl.results.layer_density import draw_layers
from prunectl.results.leaderboard import Board, leaderboard
from prunectl.results.panels import Panel, panels, styles
from prunectl.results.published_lines import Lines
from prunectl.spec.task import Metric
from prunectl.store.files import replacing
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Asked = Kind | Literal["accuracy"]
"""What may be asked for: `accuracy` is another word for `score`, whatever the task."""

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
    band: Band = "ci",
    source: str | None = "auto",
    **only: Unpack[Shown],
) -> Figure:
    """Draw a figure with a panel per board of a plan (the last one used, unless named), or of all plans; over costs,
    boards that differ in their schedule alone have one panel.

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


def panels_of(boards: Sequence[Board], kind: Kind) -> list[Panel]:
    """Arrange boards as the panels of a figure."""
    return panels(boards, shared=kind in COSTS)


def draw(
    paths: StorePaths, boards: Sequence[Board], kind: Kind, *, band: Band, source: str | None
) -> Figure:
    """Draw a figure of these boards, each of which has a number. Raises what `plot` raises."""
    if kind == "layers":
        return draw_layers(paths, boards)
    made = panels_of(boards, kind)
    looks = styles(made)
    with figure_style.settings():
        sheet = figure_style.Sheet(len(made))
        behind, cut = [], False
        for axes, panel in zip(sheet.panels, made, strict=True):
            lines = published_lines.lines(paths, panel.board, source) if kind not in COSTS else None
            behind.append(lines)
            drawn = _methods(panel, kind, looks)
            aside = shifts(drawn, kind)
            for name, cells in drawn:
                draw_line(axes, name, cells, kind, band, looks[name], aside.get(name, 0.0))
            dense = _dense(axes, panel, kind, band)
            theirs = [] if lines is None else _published(axes, lines, kind, looks)
            ours = [cell for _, cells in drawn for cell in cells]
            cut |= frame(axes, ours, kind, band, dense, theirs)
            axes.set_title(panel.title(boards))
            note = ""
            if kind == "cost":
                axes.margins(x=0.1)  # for what stands side by side
                note = name_ends(axes, drawn, kind, band, looks, aside)
            else:
                figure_style.ratio_axis(axes)
            axes.set_xlabel("\n".join(filter(None, (HORIZONTAL[kind], note))))
            axes.set_ylabel(vertical(kind, panel.board.metric))
        found = [each for each in behind if each]
        sheet.finish(_caption(boards, kind, band, found, cut=cut))
        return sheet.figure


HORIZONTAL = {
    **dict.fromkeys(("score", "delta"), "compression (prunable weights, dense / kept)"),
    "cost": "all training so far, dense network included (epochs)",
    "macs": "theoretical speedup (theoretical MACs, dense / kept)",
}


def vertical(kind: Kind, metric: Metric) -> str:
    """Label the vertical axis of a panel."""
    if kind == "delta":
        return f"change from own dense network ({metrics.difference_unit(metric)})"
    return metrics.axis(metric)


def _methods(panel: Panel, kind: Kind, looks: dict[str, Style]) -> list[tuple[str, list[Cell]]]:
    """Return the methods with the cells that can be drawn, in the order of the legend, the same in all panels."""
    out = []
    for name, _, row in sorted(panel.rows, key=lambda each: list(looks).index(each[0])):
        # A damaged count gives none, or 0, which a logarithmic axis has not.
        cells = [cell for cell in row.cells.values() if cell.n and horizontal(cell, kind) > 0]
        # MACs saved for a weight differ from layer to layer: the order over them may be another.
        cells.sort(
            key=lambda cell: (
                horizontal(cell, kind) if kind == "macs" else number(cell, "compression")
            )
        )
        if cells:
            out.append((name, cells))
    return out


def _dense(axes: Axes, panel: Panel, kind: Kind, band: Band) -> list[float]:
    """Draw the dense network where it belongs. Returns where that is."""
    dense = panel.board.dense
    if kind == "delta":
        _dense_line(axes, 0)
        return [0.0]
    if dense is None or not dense.n:
        return []
    _, centre, _ = spread(dense, kind, band)
    _dense_line(axes, centre)
    axes.annotate(
        f"dense {panel.board.metric.text(centre)}", (1, centre), xycoords=("axes fraction", "data"),
        xytext=(-3, 3), textcoords="offset points", ha="right", va="bottom", fontsize=7.5, zorder=4,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
    )  # fmt: skip
    return [centre]


def _dense_line(axes: Axes, y: float) -> None:
    axes.axhline(y, color="black", linewidth=0.8, linestyle=figure_style.DENSE_DASHES, zorder=1)


def _published(axes: Axes, found: Lines, kind: Kind, looks: dict[str, Style]) -> list[float]:
    """Draw published curves in grey behind ours. Returns their values."""
    right = axes.dataLim.x1
    drawn = []
    for strategy, curve in found.by_strategy.items():
        samples = [sample for sample in curve if sample.compression <= BEYOND * right]
        values = [sample.delta if kind == "delta" else sample.median for sample in samples]
        axes.plot(
            [sample.compression for sample in samples], values,
            **figure_style.grey(looks.get(strategy)), label=f"{strategy}, {found.source}",
        )  # fmt: skip
        drawn += values
    return drawn


def _caption(
    boards: Sequence[Board], kind: Kind, band: Band, behind: Iterable[Lines], *, cut: bool
) -> str:
    """Write what the lines and bands are, and how many seeds they rest on."""
    rows = [row for board in boards for row in board.rows]
    if kind == "delta":
        lines, spread = (
            "mean of the seeds' changes, each from its own dense network",
            BANDS["ci"],
        )
    else:
        lines = f"{'median' if band == 'min-max' else 'mean'} of the seeds, last epoch"
        spread = BANDS[band]
    counts = {cell.n for row in rows for cell in row.cells.values() if cell.n}
    alone = ", none of one seed" if 1 in counts and band != "min-max" else ""
    ends = ", cut off at the frame" if cut else ""
    bands = "bands and bars" if kind == "cost" else "band"
    what = f"{lines}; {bands}: {spread}{alone}{ends}; {figure_style.count_text(rows)}"
    if kind == "cost":
        what += "; sparsities ascend along a line, to the compression at its end; what costs the same at each "
        what += "stands side by side"
    if chosen := dict.fromkeys(row.label for board in boards for row in board.rows if row.selected):
        together = ", its cost that of all options" if kind == "cost" else ""
        what += f"\n{', '.join(chosen)}: chosen by validation for each seed{together}"
    sources = {each.source: each.note for each in behind}
    for source, note in sources.items():
        names = " or ".join(dict.fromkeys(board.metric.name for board in boards))
        centre = f"medians minus their mean dense {names}" if kind == "delta" else "medians"
        what += f"\ngrey: {source}, {centre}{note}"
    notes = dict.fromkeys(board.demonstration for board in boards)
    return "\n".join([what, *filter(None, notes)])


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
