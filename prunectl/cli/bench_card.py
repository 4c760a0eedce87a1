"""`bench card`: all that a first card should be asked, in steps that a later call goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.machine import machine
from prunectl.cli.support.tables import console, print_json, table
from prunectl.cli.support.terminal import narrate
from prunectl.text import duration, plural

if TYPE_CHECKING:  # msgspec, which `--help` must not pay for
    from prunectl.bench.card.records import Card


def card(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STEP[/PART]", help="Only this one (repeatable)."),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="For the results; a later call goes on with it.")
    ] = Path("bench-card"),
    device: Annotated[str, typer.Option(help="Which card.")] = "cuda:0",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do again what has a result; with --only, only that.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes: tries everything, measures nothing.")
    ] = False,
    list_steps: Annotated[
        bool, typer.Option("--list", help="List the steps and their parts; run nothing.")
    ] = False,
    show_table: Annotated[
        bool, typer.Option("--table", help="Print the results as markdown tables; run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Check and measure the CUDA path on a card, the most telling first. A call that is cut off loses only the part
    that was running. Exits with 1 if anything was not as it must be."""
    from msgspec.structs import replace

    from prunectl.bench.card.steps import in_order

    if list_steps:
        _print_steps(only or (), out)
        return
    found = _known(out) if show_table else _run(only or (), out, device, fresh, quick)
    found = replace(found, parts=tuple(in_order(found.parts)))
    if as_json:
        print_json(found)
    elif show_table:
        from prunectl.bench.card.report import markdown

        typer.echo(markdown(found))
        return
    else:
        _print_results(found)
    if any(part.wrong for part in found.parts):
        raise typer.Exit(1)


def _run(only: Sequence[str], out: Path, device: str, fresh: bool, quick: bool) -> Card:
    """Do what is lacking. Raises BenchError where there is no such card."""
    from prunectl.bench.card.runner import Runner, reset
    from prunectl.bench.card.steps import all_steps, chosen
    from prunectl.bench.cleanup import orderly
    from prunectl.bench.rounds import BenchError
    from prunectl.scheduler.devices.base import parse
    from prunectl.scheduler.devices.system import SystemLayer

    parts, layer = chosen(all_steps(), only), SystemLayer()
    cards = [each for each in layer.devices() if each.kind == "cuda"]
    if not cards:
        raise BenchError("there is no CUDA device here; `prunectl doctor` may say why")
    (one, *others) = parse(device, layer)
    if others or one.kind != "cuda":
        raise typer.BadParameter("one CUDA device at a time", param_hint="--device")
    if fresh and not only:
        reset(out)
    names = [each.name for each in cards]
    runner = Runner(out, machine(), names, narrate, device=one.id, quick=quick)
    if fresh:
        runner.forget(parts)
    with orderly():
        runner.run(parts)
    return runner.card


def _known(out: Path) -> Card:
    """Read the results of a folder. Raises BenchError where it has none."""
    from prunectl.bench.card.records import Card
    from prunectl.bench.card.runner import results_file
    from prunectl.bench.rounds import BenchError
    from prunectl.store.records.base import read_record

    try:
        return read_record(results_file(out), Card)
    except (FileNotFoundError, NotADirectoryError):
        raise BenchError(f"{out} has no results: run `prunectl bench card --out {out}`") from None


def _print_steps(only: Sequence[str], folder: Path) -> None:
    from prunectl.bench.card.steps import all_steps, chosen
    from prunectl.bench.rounds import BenchError

    parts = chosen(all_steps(), only)
    try:
        known = _known(folder)
    except BenchError:
        known = None
    steps = {step.name: step for step, _ in parts}
    rows = []
    for name, step in steps.items():
        own = [part for each, part in parts if each.name == name]
        done = sum(known is not None and known.result(name, part) is not None for part in own)
        rows.append([name, step.what, f"{done} of {len(own)}", duration(step.seconds)])
    out = console()
    out.print(table(["step", "what", "parts done", "limit of a part"], rows, left=(0, 1)))
    for name in steps:
        own = [part for each, part in parts if each.name == name]
        out.print(f"{name}: {', '.join(own)}", markup=False)


def _print_results(found: Card) -> None:
    from prunectl.bench.card.report import shown
    from prunectl.bench.card.runner import summary

    out = console()
    rows = [["NO" if part.wrong else "", part.name, summary(part)] for part in found.parts]
    out.print(table(["", "part", "result"], rows, left=range(3)))
    figures = [
        [part.name, each.label, shown(each.value), each.unit]
        for part in found.parts
        for each in part.outcome.figures
    ]
    out.print(table(["part", "figure", "", "unit"], figures, left=(0, 1, 3)))
    wrong = sum(part.wrong for part in found.parts)
    out.print(
        f"{plural(len(found.parts), 'part')}, {wrong} with something wrong; {', '.join(found.devices)}",
        markup=False,
    )
