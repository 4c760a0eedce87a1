"""`compare`: what was measured beside what was published."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption

if TYPE_CHECKING:
    from prunectl.results.compare import Comparison

SHOWN = 12
"""Missing cells listed by name; the rest is counted."""


class Publication(StrEnum):
    """Whose numbers."""

    renda2020 = "renda2020"
    mikler2021 = "mikler2021"
    thesis = "mikler2021-thesis"


class CompareFormat(StrEnum):
    """What `compare` writes."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"
    latex = "latex"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(compare)


def compare(
    plan: Annotated[str | None, typer.Argument(help="A plan's name. Default: all.")] = None,
    to: Annotated[Publication, typer.Option(help="Whose numbers.")] = Publication.renda2020,
    form: Annotated[
        CompareFormat, typer.Option("--format", help="What to write.")
    ] = CompareFormat.table,
    store: StoreOption = None,
) -> None:
    """Compare with published results, as points from each one's own dense network, medians with medians."""
    from prunectl.results import compare as comparing
    from prunectl.results.formats import render

    found = comparing.compare(results_of(store), to.value, plan)
    if form is not CompareFormat.table:
        typer.echo(render(found.table(), form.value), nl=False)
        return
    _print(found)


def _print(found: Comparison) -> None:
    from prunectl.cli.support.tables import console, table
    from prunectl.results.claims import signed

    out = console()
    headings = ("network", "schedule", "strategy", "sparsity", "ours (n)", "theirs (n)", "gap", "")
    rows = [
        (
            f"{point.ours.network} {point.ours.dataset}",
            point.ours.schedule,
            point.ours.strategy,
            f"{point.ours.sparsity:.4g}",
            f"{signed(point.ours.delta)} ({point.ours.n})",
            f"{signed(point.theirs.delta)} ({point.theirs.n})",
            signed(point.difference),
            {True: "inside", False: "outside", None: ""}[point.inside],
        )
        for point in found.points
    ]
    if rows:
        out.print(table(headings, rows, left=(0, 1, 2)))
        inside, judged = found.inside
        out.print(
            f"{len(rows)} cells beside {found.source}: points from each one's own dense network, medians; "
            f"{inside} of {judged} inside the published spread"
        )
    else:
        out.print(f"No cell of ours has a published neighbour in {found.source}.")
    for sample, why in found.unmatched[:SHOWN]:
        out.print(
            f"  {sample.network} {sample.dataset} {sample.strategy} {sample.sparsity:.4g}: {why}",
            markup=False,
        )
    _more(len(found.unmatched) - SHOWN, "of ours without a neighbour")
    if found.missing:
        out.print(f"not measured yet: {len(found.missing)} published cells of these networks")
    out.print(table(("claim", "by their numbers", "by ours"), _claims(found), left=(0, 1, 2)))


def _claims(found: Comparison) -> list[tuple[str, str, str]]:
    return [
        (theirs.text, f"{theirs.verdict}: {theirs.evidence}", f"{ours.verdict}: {ours.evidence}")
        for theirs, ours in found.claims
    ]


def _more(count: int, what: str) -> None:
    if count > 0:
        typer.echo(f"  … and {count} more {what}")
