"""`bench …`: this machine's own figures of training and scheduling."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.bench_card import card
from prunectl.cli.support.machine import machine
from prunectl.cli.support.tables import console, print_json, table
from prunectl.cli.support.terminal import narrate
from prunectl.errors import ExitCode

if TYPE_CHECKING:  # msgspec, which `--help` must not pay for
    from prunectl.bench.records import (
        Fleet,
        Found,
        Loads,
        Row,
        SchedulerResult,
        StudyResult,
        TrainResult,
        Upkeep,
        Work,
    )
    from prunectl.bench.simulation.tally import Tally

app = typer.Typer(
    help="This machine's own figures of training and scheduling.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.command()(card)

JsonOption = Annotated[bool, typer.Option("--json", help="For scripts.")]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="Seconds instead of minutes: tries it, measures nothing.")
]
RoundsOption = Annotated[int, typer.Option(min=1, help="Turns of each contender.")]


@app.command()
def train(
    device: Annotated[str, typer.Option(help="cpu, or cuda with --all.")] = "cpu",
    everything: Annotated[
        bool, typer.Option("--all", help="cuda: from a plain loop to fused graphs in slots.")
    ] = False,
    networks: Annotated[
        list[str] | None, typer.Option("--network", help="Only this one (repeatable).")
    ] = None,
    rounds: RoundsOption = 7,
    quick: QuickOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time training against a bare loop and a DataLoader loop: same network, batches, steps, threads."""
    from prunectl.bench import train as bench
    from prunectl.bench.cleanup import orderly

    if (device == "cpu") == everything:
        raise typer.BadParameter("--device cpu goes without --all, --device cuda with it")
    if device == "cpu":
        tables = bench.cpu_tables(quick, networks or ())
    else:
        tables = bench.cuda_tables(quick, device, networks or ())
    if not tables:
        raise typer.BadParameter("no such network is measured", param_hint="--network")
    with orderly():
        results = bench.run(tables, 1 if quick else rounds, narrate)
    _report("train", results, as_json, _print_train)


@app.command()
def study(
    rounds: RoundsOption = 3, quick: QuickOption = False, as_json: JsonOption = False
) -> None:
    """Time a small study, 3 seeds × (dense + 3 iterations), from the shell to its end, against a script."""
    from prunectl.bench import study as bench
    from prunectl.bench.cleanup import orderly

    with orderly():
        result = bench.run(1 if quick else rounds, quick, narrate)
    _report("study", [result], as_json, _print_study)


@app.command()
def scheduler(
    stages: Annotated[int, typer.Option(min=2, help="Stages in the warm worker.")] = 20,
    seconds: Annotated[
        float, typer.Option(min=1, help="How long the scheduler's own cost is measured.")
    ] = 60.0,
    quick: QuickOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time what lies between two stages, a warm worker against a process for each, and measure the scheduler's own
    CPU and memory while 64 workers that train nothing report to it."""
    from prunectl.bench import scheduler as bench
    from prunectl.bench.cleanup import orderly

    with orderly():
        result = bench.run(stages, quick, narrate, seconds)
    _report("scheduler", [result], as_json, _print_scheduler)


@app.command()
def simulate(
    seed: Annotated[
        int | None, typer.Option(min=0, help="Tell one schedule line by line, and run no others.")
    ] = None,
    schedules: Annotated[
        int | None,
        typer.Option(min=1, help="Until there are so many in all; 2,000 without --hours."),
    ] = None,
    hours: Annotated[float | None, typer.Option(min=0, help="For so long.")] = None,
    tally: Annotated[
        Path | None,
        typer.Option(help="File that adds up over calls. [default: in the user's cache folder]"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try the scheduler in simulated worlds where everything goes wrong: machines, disks, messages, people."""
    from prunectl.bench.simulation import tally as bench

    if seed is not None:
        raise typer.Exit(bench.replay(seed))
    if schedules is None and hours is None:
        schedules = 2000
    path = tally or bench.default_path()
    found = bench.run(
        path, schedules, None if hours is None else hours * 3600, lambda now: narrate(_sums(now))
    )
    if as_json:
        print_json(found)
    else:
        _print_simulation(found, path)
    if found.broken:
        raise typer.Exit(1)


def _sums(found: Tally) -> str:
    broken = f", {len(found.broken)} with violations" if found.broken else ""
    return f"{found.schedules:,} schedules, {found.checks:,} checks{broken}"


def _print_simulation(found: Tally, path: Path) -> None:
    out = console()
    rows = [[kind, f"{count:,}"] for kind, count in found.faults.items()]
    out.print(table(["what happened", "times"], rows))
    rate = 3600 * found.schedules / found.seconds if found.seconds else 0.0
    out.print(
        f"{_sums(found)}; {found.hours:,.0f} hours of simulated worlds in {found.seconds:,.0f} s, "
        f"{rate:,.0f} schedules an hour; added up in {path}",
        markup=False,
    )
    for each in found.broken[:10]:
        out.print(f"seed {each.seed}: {each.violation}", markup=False)
    if found.broken:
        out.print(
            f"to see one: prunectl bench simulate --seed {found.broken[0].seed}", markup=False
        )


@app.command("store", hidden=True, context_settings={"ignore_unknown_options": True})
@app.command("tui", hidden=True, context_settings={"ignore_unknown_options": True})
def script(
    context: typer.Context, arguments: Annotated[list[str] | None, typer.Argument()] = None
) -> None:
    """Print which script of the source tree measures a large store, or the terminal UI."""
    name = context.info_name
    command = " ".join(["python -m", f"tests.bench.{name}", *(arguments or [])])
    narrate(f"what `bench {name}` measured is a script of the source tree: {command}")
    raise typer.Exit(ExitCode.USAGE)


def _report(
    what: str, results: Sequence[Found], as_json: bool, show: Callable[[Found], None]
) -> None:
    from prunectl.bench.records import Report

    about = machine()
    if as_json:
        print_json(Report(what, time.strftime("%Y-%m-%d"), about, tuple(results)))
        return
    for result in results:
        show(result)
    typer.echo(f"{about.cpu}, {about.cores} cores, torch {about.torch}, Python {about.python}")


def _print_train(result: TrainResult) -> None:
    from msgspec import UNSET

    _print_work(result.work, result.load)
    _print_rows(result.measured, "s/epoch")
    if result.slots_worth_having is not UNSET:
        console().print(f"slots worth having: {result.slots_worth_having}", markup=False)


def _print_study(result: StudyResult) -> None:
    _print_work(result.work, result.load)
    _print_rows(result.measured, "s")


def _print_scheduler(result: SchedulerResult) -> None:
    _print_work(result.work, result.load)
    rows = [
        [row.label, *(f"{1000 * each:.1f}" for each in (row.seconds, row.fastest, row.slowest))]
        for row in result.gaps
    ]
    console().print(table(["between two stages", "median ms", "fastest", "slowest"], rows))
    _print_upkeep(result.upkeep)
    _print_fleet(result.fleet)


def _print_work(work: Work, load: Loads) -> None:
    console().print(
        f"{work.network}, {work.train:,} images {'×'.join(map(str, work.shape))}, batch "
        f"{work.batch}; {_loads(load)}",
        markup=False,
    )


def _print_rows(measured: Sequence[Row], unit: str) -> None:
    rows = [_row(row) for row in measured]
    headings = ["", f"median {unit}", "fastest", "slowest", "× first", "95 %"]
    console().print(table(headings, rows))


def _loads(load: Loads) -> str:
    (before, *_), (after, *_) = load
    return f"load {before:.1f} before, {after:.1f} after"


def _print_upkeep(found: Upkeep) -> None:
    out = console()
    out.print(
        f"{found.workers} workers that only report, an epoch each per {found.epoch_seconds:g} s, a study of "
        f"{found.stages:,} stages; in {found.seconds:.0f} s {found.epochs_recorded:,} epochs recorded and "
        f"{found.stages_ended} stages ended; {_loads(found.load)}",
        markup=False,
    )
    rows = [
        ["CPU, % of one core", f"{found.cpu_percent:.1f}"],
        ["  its loop", f"{found.loop_percent:.1f}"],
        ["  ingestion", f"{found.ingestion_percent:.1f}"],
        ["memory at the start, MiB", f"{found.rss_start_mib:.0f}"],
        ["memory at the end, MiB", f"{found.rss_end_mib:.0f}"],
    ]
    out.print(table(["the scheduler's own process", ""], rows))


def _print_fleet(found: Fleet) -> None:
    out = console()
    out.print(
        f"{found.devices} simulated devices of {found.slots} slots, a study of {found.stages:,} stages; in "
        f"{found.seconds:,.0f} s of their world {found.stages_ended:,} stages ended",
        markup=False,
    )
    rows = [
        ["CPU, % of one core", f"{found.cpu_percent:.1f}"],
        ["CPU a stage, ms", f"{found.cpu_ms_per_stage:.1f}"],
        ["CPU from the plan's record to full slots, s", f"{found.start_seconds:.1f}"],
        ["memory with the simulated disk, MiB", f"{found.rss_mib:.0f}"],
    ]
    out.print(table(["the scheduler with many machines", ""], rows))


def _row(row: Row) -> list[str]:
    times = [f"{each:.3f}" for each in (row.seconds, row.fastest, row.slowest)]
    covers = "" if row.low is None else f"{row.low:.2f} – {row.high:.2f}"
    return [row.label, *times, f"{row.ratio:.2f}", covers]
