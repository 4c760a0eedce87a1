"""`plot`: figures of what was measured."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption

if TYPE_CHECKING:
    from prunectl.results.leaderboard import Board


class PlotKind(StrEnum):
    """What to draw."""

    accuracy = "accuracy"
    delta = "delta"
    cost = "cost"
    layers = "layers"


class BandKind(StrEnum):
    """What line and band are."""

    min_max = "min-max"
    std = "std"


class Behind(StrEnum):
    """Whose numbers stand in grey behind ours."""

    auto = "auto"
    none = "none"
    renda2020 = "renda2020"
    mikler2021 = "mikler2021"
    thesis = "mikler2021-thesis"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(plot)


def plot(
    plan: Annotated[
        str | None, typer.Argument(help="A plan's name. Default: the one last run.")
    ] = None,
    kind: Annotated[
        PlotKind,
        typer.Option(
            help="accuracy or delta (points from the own dense network) against compression, cost "
            "(accuracy against epochs of retraining), or layers (weights kept in each)."
        ),
    ] = PlotKind.accuracy,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="FILE.png, .svg or .pdf. Default: PLAN-KIND.png."),
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only this network.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    all_plans: Annotated[bool, typer.Option("--all", help="Every plan of the store.")] = False,
    band: Annotated[
        BandKind,
        typer.Option(
            help="Median with min–max of the seeds, or mean ± std; delta has the 95 % interval."
        ),
    ] = BandKind.min_max,
    published: Annotated[
        Behind, typer.Option(help="Whose numbers to show in grey behind ours.")
    ] = Behind.auto,
    split: Annotated[
        bool, typer.Option("--split", help="A file for each table of `rank` instead of one.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Draw accuracy, change from dense or cost over compression, or where the weights stay."""
    from prunectl.errors import ControlError
    from prunectl.results import plots
    from prunectl.results.leaderboard import leaderboard

    paths = results_of(store)
    boards = leaderboard(paths, plan, network=network, dataset=dataset, all_plans=all_plans)
    boards = [board for board in boards if board.n]
    if not boards:
        raise ControlError(f"nothing to draw yet: no pruned network of {paths.root} is done")
    name = "all" if all_plans else boards[0].plan
    file = out or Path(f"{_slug(name)}-{kind.value}.png")
    source = None if published is Behind.none else published.value
    parts = [(_beside(file, board), [board]) for board in boards] if split else [(file, boards)]
    for target, shown in parts:
        figure = plots.draw(paths, shown, kind.value, band=band.value, source=source)
        plots.save(figure, target)
        typer.echo(str(target))


def _beside(file: Path, board: Board) -> Path:
    """The file's name with what the board is of."""
    named = [board.plan, board.network, board.dataset, board.recipe, board.schedule]
    return file.with_stem("-".join([file.stem, *(_slug(name) for name in named[1:])]))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
