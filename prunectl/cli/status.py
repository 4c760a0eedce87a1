"""`status`: how a store stands now, in a few lines or as JSON."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunectl.cli.support.options import StoreOption

if TYPE_CHECKING:
    from prunectl.monitor.snapshot import RunningView, Snapshot

SHOWN = 20
"""Lines of a kind at the most; the JSON has them all."""


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(status)


def status(
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what is running, waiting, done and failed. States are computed from locks and files."""
    from prunectl.errors import StoreError
    from prunectl.monitor.watcher import Watcher
    from prunectl.store.paths import StorePaths

    paths = StorePaths.locate(store)
    if not paths.plans.is_dir():
        raise StoreError(f"{paths.root} holds no plans; `prunectl run PLAN` makes some")
    snapshot = Watcher(paths).snapshot()
    if as_json:
        import json

        typer.echo(json.dumps(_plain(dataclasses.asdict(snapshot)), indent=1))
    else:
        _print(snapshot)


def _plain(value: Any) -> Any:
    """JSON has no NaN: a diverged loss becomes null."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value


def _print(snapshot: Snapshot) -> None:
    from prunectl.cli.support.tables import console, duration, table

    out = console()
    scheduler = snapshot.scheduler
    if scheduler.alive:
        beat = f"last beat {duration(scheduler.age)} ago" if scheduler.age is not None else ""
        eta = time.strftime("%H:%M", time.localtime(scheduler.eta)) if scheduler.eta else "–"
        out.print(f"scheduler running, pid {scheduler.pid}, {beat}, ETA {eta}", markup=False)
    else:
        out.print("no scheduler is running")
    if scheduler.trouble:
        out.print(f"trouble: {scheduler.trouble}", markup=False)
    rows = [
        (
            plan.name,
            ", ".join(f"{count} {state}" for state, count in plan.counts.items() if count),
            f"{plan.stages_done}/{plan.stages}",
            f"{plan.steps_done / max(1, plan.steps):.1%}",
        )
        for plan in snapshot.plans
    ]
    out.print(table(("plan", "trials", "stages done", "steps"), rows, left=(0, 1)))
    if snapshot.running:
        headings = ("running", "progress", "accuracy", "device", "left")
        out.print(table(headings, (_running(stage) for stage in snapshot.running)))
    for failure in snapshot.failures[:SHOWN]:
        out.print(f"failed {failure.key[:8]}: {failure.reason}: {failure.message}", markup=False)
    for plan in snapshot.plans:
        if plan.stopped:
            out.print(f"{plan.name}: {plan.stopped}", markup=False)
    unfinished = snapshot.counts.get("interrupted", 0) + snapshot.counts.get("waiting", 0)
    if not scheduler.alive and unfinished:
        out.print("to go on: prunectl run PLAN, with the same --store")


def _running(stage: RunningView) -> tuple[str, ...]:
    from prunectl.cli.support.tables import duration

    name = "rewind point" if stage.replay else stage.labels.get("strategy", "")
    if stage.iteration == 0 and not stage.replay:
        name = "dense"
    seed = stage.labels.get("seed", "")
    return (
        f"{name} {float(stage.sparsity):.4g} · seed {seed}"
        if stage.iteration
        else f"{name} · seed {seed}",
        f"{stage.step}/{stage.steps}",
        "–" if stage.accuracy is None else f"{stage.accuracy:.2f}",
        stage.device or "–",
        duration(stage.eta),
    )
