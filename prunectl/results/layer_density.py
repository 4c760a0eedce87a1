"""Figures of the density of each layer: a panel per method, a line per sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prunectl.errors import ControlError
from prunectl.results import figure_style
from prunectl.results.board_cell import Cell
from prunectl.results.leaderboard import BOARD_LABELS, Board
from prunectl.results.panels import Panel
from prunectl.store.db import query
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 5
"""Sparsities of a panel at the most: the least, the greatest, and evenly between."""

NAMED = 24
"""Layers up to which every one is named."""

Profile = list[tuple[str, float]]
"""Layers in order with the fraction of their weights that is kept, averaged over seeds."""

_LAYERS = """
SELECT p.cell, p.iteration, l.layer, avg(l.kept / l.total) AS density
FROM points_all p JOIN layers l USING (stage)
WHERE p.done AND p.plan = $plan AND p.version = $version AND p.network = $network AND p.dataset = $dataset
  AND p.recipe = $recipe AND p.schedule = $schedule
GROUP BY p.cell, p.iteration, l.position, l.layer
ORDER BY p.cell, p.iteration, l.position
"""


def _profiles(paths: StorePaths, board: Board) -> dict[tuple[str, int], Profile]:
    """Read the profile of each (cell, iteration) of the board."""
    out: dict[tuple[str, int], Profile] = {}
    named = {name: getattr(board, name) for name in (*BOARD_LABELS, "version")}
    found = query.run(paths, _LAYERS, named)
    for cell, iteration, layer, density in found.rows:
        out.setdefault((cell, iteration), []).append((layer, density))
    return out


def draw_layers(paths: StorePaths, boards: Sequence[Board]) -> Figure:
    """Draw the figure. Raises ControlError where no layer was counted."""
    panels = [
        (board, row, lines)
        for board in boards
        for known in [_profiles(paths, board)]
        for row in board.rows
        if (lines := _lines(row.cells, known))
    ]
    if not panels:
        raise ControlError("nothing to draw yet: no pruned stage of these has counted its layers")
    with figure_style.settings():
        sheet = figure_style.Sheet(len(panels))
        for axes, (board, row, lines) in zip(sheet.panels, panels, strict=True):
            several = len(boards) > 1
            panel = Panel((board,))
            title = panel.title(boards) if several else f"{board.network} · {board.dataset}"
            axes.set_title(f"{title} · {row.label}")
            _panel(axes, lines)
        n = figure_style.count_text(row for _, row, _ in panels)
        sheet.finish(f"mean over the seeds ({n}); dotted: the same density in every layer")
        return sheet.figure


def _lines(
    cells: Mapping[float, Cell], known: Mapping[tuple[str, int], Profile]
) -> dict[float, Profile]:
    """Select up to `SHOWN` sparsities with their profiles."""
    found = {
        sparsity: known[cell.cell, cell.iteration]
        for sparsity, cell in sorted(cells.items())
        if (cell.cell, cell.iteration) in known
    }
    names = list(found)
    if len(names) > SHOWN:
        picks = {round(i * (len(names) - 1) / (SHOWN - 1)) for i in range(SHOWN)}
        names = [name for i, name in enumerate(names) if i in picks]
    return {name: found[name] for name in names}


def _panel(axes: Axes, lines: Mapping[float, Profile]) -> None:
    import matplotlib as mpl
    from matplotlib.ticker import FuncFormatter, NullLocator

    # Cividis runs from dark to light evenly, also in greyscale; its lightest end is too light for a line.
    shades = mpl.colormaps["cividis"]
    styles = list(figure_style.styles(f"{i}" for i in range(7)).values())
    for index, (sparsity, profile) in enumerate(lines.items()):
        colour = shades(0.85 * index / max(1, len(lines) - 1))
        style = styles[index]
        shown = [100 * density if density else float("nan") for _, density in profile]
        axes.plot(
            range(len(profile)), shown, label=f"sparsity {sparsity:.4g}",
            **(style.line() | {"color": colour, "markersize": 4.0, "linewidth": 1.2}),
        )  # fmt: skip
        axes.axhline(
            100 * (1 - sparsity), color=colour, linewidth=0.7, linestyle=figure_style.DENSE_DASHES
        )
        # A layer without a weight left has no place on a logarithmic axis: it stands at the bottom.
        dead = [i for i, (_, density) in enumerate(profile) if not density]
        if dead:
            axes.plot(
                dead, [0.02] * len(dead), linestyle="none", marker="x", color=colour,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("weights kept of the layer")
    names = [layer for layer, _ in next(iter(lines.values()))]
    step = max(1, round(len(names) / NAMED))
    places = range(0, len(names), step)
    axes.set_xticks(places, [names[i] for i in places], rotation=60, ha="right", fontsize=6.5,
                    rotation_mode="anchor")  # fmt: skip
