"""`show`: what a plan would run, and how to repeat a trial."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunectl.cli.support.options import SetOption, SlotsOption, StoreOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunectl.plan.expand import Expansion
    from prunectl.scheduler.devices.base import Device
    from prunectl.scheduler.eta import Cost
    from prunectl.scheduler.graph import Preview
    from prunectl.store.paths import StorePaths


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(show)


def show(
    plan: Annotated[
        Path | None, typer.Argument(help="A plan: a TOML file.", show_default=False)
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option("--trial", help="How to repeat this trial instead: its id or the beginning."),
    ] = None,
    plan_text: Annotated[
        bool, typer.Option("--plan-text", help="With --trial: only its plan, as TOML.")
    ] = False,
    store: StoreOption = None,
    devices: Annotated[
        str | None,
        typer.Option(help="Devices to forecast for: all, cpu, or cuda:0,cuda:1."),
    ] = None,
    slots: SlotsOption = None,
    changes: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what a plan would run: trials, stages, the work they share, steps. Runs nothing, writes nothing."""
    if trial is not None:
        if plan is not None or changes:
            raise typer.BadParameter("--trial is of the store and goes without PLAN and --set")
        from prunectl.cli.support.repeat import show_trial

        show_trial(trial, store, as_json=as_json, plan_text=plan_text)
        return
    if plan is None or plan_text:
        raise typer.BadParameter("give a PLAN, or --trial ID to see how a trial is repeated")
    from prunectl.cli.support.planning import read_plan
    from prunectl.scheduler.devices.base import parse
    from prunectl.scheduler.devices.system import SystemLayer
    from prunectl.scheduler.eta import estimate
    from prunectl.scheduler.graph import StageGraph, preview
    from prunectl.store.paths import StorePaths
    from prunectl.store.records.plan import study_from

    paths = StorePaths.locate(store)
    expansion = read_plan(plan, changes or [], paths)
    graph = StageGraph(paths)
    graph.add(study_from(expansion.record() | {"created": 0.0}))
    counted = preview(graph)
    run = expansion.plan.content.run
    asked = slots or run.slots_per_device
    chosen = parse(devices or run.devices or "all", SystemLayer(), asked)
    cost = estimate(paths, graph, chosen)
    if as_json:
        import json

        typer.echo(json.dumps(_as_json(expansion, counted, cost, paths), indent=1))
    else:
        _print(expansion, counted, paths)
        _print_cost(cost, counted, chosen)


def _as_json(
    expansion: Expansion, counted: Preview, cost: Cost | None, paths: StorePaths
) -> dict[str, Any]:
    record = expansion.record()
    return {
        "name": record["name"],
        "question": record["question"],
        "trials": counted.trials,
        "stages": counted.stages,
        "stages_without_sharing": counted.stages_without_sharing,
        "stages_done": counted.done,
        "steps": counted.steps,
        "steps_without_sharing": counted.steps_without_sharing,
        "steps_to_run": counted.steps_to_run,
        "replays": [
            {"key": key, "dense": dense, "step": step, "steps": steps}
            for key, dense, step, steps in counted.replays
        ],
        "cost": None if cost is None else dataclasses.asdict(cost),
        "store": str(paths.root),
        "trial_list": record["trials"],
        "stage_list": [{"key": key, **stage} for key, stage in record["stages"].items()],
    }


def _print(expansion: Expansion, counted: Preview, paths: StorePaths) -> None:
    from prunectl.cli.support.tables import console, table

    out = console()
    plan = expansion.plan
    out.print(f"{plan.content.name}  {plan.question}".rstrip(), markup=False)
    headings = (
        *("network", "data set", "recipe", "strategy", "retrain"),
        *("schedule", "pruning", "sparsities"),
    )
    rows = _rows(expansion)
    varied = [i for i in range(len(headings)) if len({row[i] for row, _ in rows}) > 1]
    for i, heading in enumerate(headings):
        if i not in varied:
            out.print(f"{heading:10}  {rows[0][0][i]}", markup=False)
    if varied:
        shown = ([*(row[i] for i in varied), str(count)] for row, count in rows)
        out.print(table([*(headings[i] for i in varied), "trials"], shown, left=range(len(varied))))
    saved = 1 - counted.steps / counted.steps_without_sharing
    out.print(
        f"trials      {counted.trials:,} on {len(plan.content.seeds)} seeds\n"
        f"stages      {counted.stages:,}  ({counted.stages_without_sharing:,} without sharing)\n"
        f"steps       {counted.steps:,}  ({counted.steps_without_sharing:,} without sharing: "
        f"{saved:.1%} saved)\n"
        f"to run      {counted.stages - counted.done:,} stages, {counted.steps_to_run:,} steps  "
        f"({counted.done:,} stages done in {paths.root})",
        markup=False,
    )
    for key, dense, step, steps in counted.replays:
        out.print(
            f"replay      dense stage {dense[:8]} to step {step:,}, whose checkpoint was not kept: "
            f"{steps:,} steps ({key[:8]})",
            markup=False,
        )


def _print_cost(cost: Cost | None, counted: Preview, devices: Sequence[Device]) -> None:
    from prunectl.cli.support.tables import console, duration, size

    out = console()
    if counted.stages == counted.done and not counted.replays:
        return
    if cost is None:
        out.print("cost        not known: nothing like it has been run in this store yet")
        return
    names = ", ".join(f"{device.id} × {device.slots}" for device in devices)
    if any(device.auto for device in devices):
        names = f"{cost.slots} slots of {', '.join(device.id for device in devices)}"
    out.print(
        f"time        about {duration(cost.wall_seconds)} on {names}, "
        f"{(cost.device_seconds or 0) / 3600:.3g} device-hours\n"
        f"memory      {size(cost.memory)} for each worker\n"
        f"disk        {size(cost.disk)}",
        markup=False,
    )
    if cost.unmeasured:
        out.print(f"            without {', '.join(cost.unmeasured)}: never run here", markup=False)


def _rows(expansion: Expansion) -> list[tuple[tuple[str, ...], int]]:
    """What distinguishes the trials, but for their seeds, and how many trials each line stands for."""
    counts: Counter[tuple[str, ...]] = Counter()
    levels: dict[tuple[str, ...], set[str]] = {}
    for trial in expansion.trials:
        recipe, retrain = trial.recipe, trial.retrain
        pruning = " ".join((trial.criterion, trial.scope, trial.granularity)).strip()
        names = (trial.network, trial.dataset, recipe, trial.strategy, retrain)
        row = (*names, trial.schedule, pruning)
        counts[row] += 1
        levels.setdefault(row, set()).update(trial.sparsities[1:])
    return [((*row, _levels(levels[row])), count) for row, count in counts.items()]


def _levels(sparsities: set[str]) -> str:
    if not sparsities:
        return "none"
    ordered = sorted(float(sparsity) for sparsity in sparsities)
    return f"{len(ordered)}: {ordered[0]:.4g} … {ordered[-1]:.4g}"
