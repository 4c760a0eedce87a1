"""`plot`: figures of what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption, VersionOption

if TYPE_CHECKING:  # results.leaderboard imports DuckDB
    from prunectl.results.leaderboard import Board

# The first two are `results.plots.Asked` and `Band`, which cannot be imported here without DuckDB.
Kind = Literal["score", "accuracy", "delta", "cost", "macs", "layers"]
Band = Literal["ci", "min-max", "std"]
Behind = Literal["auto", "none", "renda2020", "mikler2021", "mikler2021-thesis"]


def plot(
    plan: Annotated[
        str | None, typer.Argument(help="A plan's name. Default: the one last run.")
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            help="score (of the task: accuracy is the same) or delta (change from the own dense network) "
            "against compression; score against cost (all training so far, in epochs) or macs (theoretical speedup: "
            "theoretical MACs, dense / kept), one-shot and iterative in one panel; or layers (weights kept in each)."
        ),
    ] = "score",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="FILE.png, .svg or .pdf. Default: PLAN-KIND.png."),
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only this network.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    all_plans: Annotated[bool, typer.Option("--all", help="Every plan of the store.")] = False,
    version: VersionOption = None,
    band: Annotated[
        Band,
        typer.Option(
            help="Mean with its 95 % interval over the seeds, median with their min–max, or mean ± std; delta has the "
            "95 % interval."
        ),
    ] = "ci",
    published: Annotated[
        Behind, typer.Option(help="Whose numbers to show in grey behind ours.")
    ] = "auto",
    split: Annotated[
        bool, typer.Option("--split", help="A file for each panel instead of one.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Draw scores or changes over compression, scores over cost or theoretical speedup, or weights by layer."""
    from prunectl.results import plots

    if all_plans and version is not None:
        raise typer.BadParameter("--version is of one plan and goes without --all")
    paths = results_of(store)
    boards = plots.drawable(
        paths, plan, network=network, dataset=dataset, all_plans=all_plans, version=version
    )
    name = "all" if all_plans else boards[0].plan
    drawn = plots.kind_of(kind)
    what = _score_name(boards) if drawn == "score" else drawn
    file = out or Path(f"{_slug(name)}-{what}.png")
    source = None if published == "none" else published
    parts = [(file, boards)]
    if split:
        made = plots.panels_of(boards, drawn)
        parts = [(_file_of(file, panel.boards), list(panel.boards)) for panel in made]
    for target, shown in parts:
        figure = plots.draw(paths, shown, drawn, band=band, source=source)
        plots.save(figure, target)
        typer.echo(str(target))


def _score_name(boards: list[Board]) -> str:
    """Name the score of the boards; those of several tasks have no name in common."""
    names = {board.metric.name for board in boards}
    return names.pop() if len(names) == 1 else "score"


def _file_of(file: Path, boards: Sequence[Board]) -> Path:
    """Append what the boards of a panel have in common to the file's name."""
    board = boards[0]
    schedule = [board.schedule] if len(boards) == 1 else []
    parts = (board.network, board.dataset, board.recipe, *schedule)
    return file.with_stem("-".join([file.stem, *map(_slug, parts)]))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
