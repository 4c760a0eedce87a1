"""`compare`: what was measured beside what was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.claims import (
    print_conditions,
    print_plan_claims,
)
from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption, TableFormat
from prunectl.cli.support.tables import console, table
from prunectl.cli.support.verdicts import verdict_counts
from prunectl.results.publications import SOURCES
from prunectl.text import plural, signed

if TYPE_CHECKING:  # results.compare imports DuckDB
    from rich.table import Table

    from prunectl.results.compare import Comparison, Point
    from prunectl.results.verdicts import Replicated

SHOWN = 12
"""Cells without a published neighbour that are listed by name; the rest is counted."""


def compare(
    plan: Annotated[str | None, typer.Argument(help="A plan's name. Default: all.")] = None,
    to: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.csv",
            help=f"Whose numbers: {', '.join(SOURCES)}, or a file with columns of the table published.",
        ),
    ] = SOURCES[0],
    form: Annotated[TableFormat, typer.Option("--format", help="What to write.")] = "table",
    store: StoreOption = None,
) -> None:
    """Compare with published results, as points from each one's own dense network, medians with medians; and say how
    many stages were replicated."""
    from prunectl.results import compare
    from prunectl.results.formats import render
    from prunectl.results.judged import HOW_JUDGED
    from prunectl.results.plan_claims import plan_claims
    from prunectl.results.verdicts import replicated

    paths = results_of(store)
    found = compare.compare(paths, to, plan)
    if form == "table":
        _print(found)
        claims = plan_claims(paths, plan)
        print_plan_claims(console(), claims)
        if found.claims or claims:
            console().print(HOW_JUDGED, markup=False)
        for each in replicated(paths, plan):
            typer.echo(_replications(each))
    else:
        typer.echo(render(found.table(), form), nl=False)


def _print(found: Comparison) -> None:
    out = console()
    if found.points:
        out.print(_points(found))
        apart, judged = found.apart
        out.print(
            f"{plural(len(found.points), 'cell')} beside {found.source}: points from each one's own dense network; "
            f"gap: ours minus theirs, [ ] its 95 % interval where both give single networks: without 0 in "
            f"{apart} of {judged}"
        )
    else:
        out.print(f"No cell of ours has a published neighbour in {found.source}.")
    for what, count in found.near_misses.items():
        out.print(f"  {what}: {plural(count, 'cell')}", markup=False)
    for sample, why in found.unmatched[:SHOWN]:
        name = f"{sample.network} {sample.dataset} {sample.strategy} {sample.level:.4g}"
        out.print(f"  {name}: {why}", markup=False)
    if len(found.unmatched) > SHOWN:
        out.print(f"  … and {len(found.unmatched) - SHOWN} more of ours without a neighbour")
    if found.missing:
        out.print(f"not measured yet: {len(found.missing)} published cells of these networks")
    if not found.claims:
        return
    rows = [(theirs.title, theirs.text, ours.text) for theirs, ours in found.claims]
    out.print(
        table((f"claim of {found.source}", "by their numbers", "by ours"), rows, left=(0, 1, 2))
    )
    print_conditions(out, [ours for _, ours in found.claims])


def _points(found: Comparison) -> Table:
    headings = ("network", "schedule", "strategy", "sparsity", "ours (n)", "theirs (n)", "gap")
    rows = [
        (
            f"{point.ours.network} {point.ours.dataset}",
            point.ours.schedule,
            point.ours.strategy,
            f"{point.ours.sparsity:.4g}",
            f"{signed(point.ours.delta)} ({point.ours.n})",
            f"{signed(point.theirs.delta)} ({point.theirs.n})",
            _gap(point),
        )
        for point in found.points
    ]
    return table(headings, rows, left=(0, 1, 2))


def _gap(point: Point) -> str:
    if point.interval is None:
        return signed(point.difference)
    low, high = point.interval
    return f"{signed(point.difference)} [{signed(low)}, {signed(high)}]"


def _replications(found: Replicated) -> str:
    """Say in a line how a plan was replicated."""
    return (
        f"{found.plan}: {found.stages} of {plural(found.of, 'stage')} replicated on {plural(found.hosts, 'machine')}: "
        f"{verdict_counts(found.counts)}"
    )
