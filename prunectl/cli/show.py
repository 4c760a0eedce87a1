"""`show`: what a plan would run, and what is known of a trial."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from prunectl.cli.support.older_folders import tell_of_older_folders
from prunectl.cli.support.options import (
    NameOption,
    SetOption,
    SlotsByOption,
    SlotsOption,
    StoreOption,
)
from prunectl.cli.support.tables import console, print_json, table
from prunectl.cli.support.terminal import narrate
from prunectl.gc_pause import without_collector
from prunectl.spec.seeds import numbers_text
from prunectl.spec.task import DEFAULT_TASK
from prunectl.store.paths import StorePaths
from prunectl.store.records.result import Result
from prunectl.text import DASH, duration, size, version_title

if TYPE_CHECKING:  # the plan's models and the scheduler take 0.5 s to import
    from prunectl.plan.expand import Expansion
    from prunectl.results.show import StageFacts, TrialFacts
    from prunectl.scheduler.devices.base import Device
    from prunectl.scheduler.eta import Cost
    from prunectl.scheduler.graph import Preview
    from prunectl.spec.task import Metric
    from prunectl.store.records.provenance import RunRecord

HEADINGS = (
    *("network", "data set", "recipe", "strategy", "retrain"),
    *("schedule", "pruning", "sparsities"),
)
RUN_HEADINGS = (
    *("run", "started", "host", "devices", "driver"),
    *("prunectl", "torch", "commit", "command"),
)
STAGE_HEADINGS = (
    *("iteration", "sparsity", "state", "score", "attempts"),
    *("seconds", "device", "torch", "stage"),
)
"""Of which the score has the name of its metric."""


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
    slots_by: SlotsByOption = None,
    changes: SetOption = None,
    name: NameOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what a plan would run: trials, stages, the work they share, steps. Runs nothing, writes nothing."""
    paths = StorePaths.locate(store)
    if trial is not None:
        if plan is not None or changes or name is not None:
            raise typer.BadParameter(
                "--trial is of the store and goes without PLAN, --set and --as"
            )
        _show_trial(paths, trial, as_json=as_json, plan_text=plan_text)
        return
    if plan is None or plan_text:
        raise typer.BadParameter("give a PLAN, or --trial ID to see how a trial is repeated")
    from prunectl.cli.support.devices import choose, named
    from prunectl.cli.support.planning import read_plans, taken_name
    from prunectl.scheduler.devices.system import SystemLayer
    from prunectl.scheduler.eta import estimate
    from prunectl.scheduler.graph import StageGraph, preview

    # It would take a third of the time of 50,000 trials, none of which goes before the end.
    with without_collector():
        (expansion,) = read_plans([plan], changes or [], name)
        taken = taken_name(paths, expansion)
        graph = StageGraph(paths)
        graph.add(expansion.study())
        counted = preview(graph)
        tables = [expansion.plan.content.run]
        names = named(devices, tables)
        chosen = choose(names, slots, slots_by, tables, SystemLayer())
        cost = estimate(paths, graph, chosen)
    tell_of_older_folders(paths, [expansion])
    if as_json:
        print_json(_as_json(expansion, counted, cost, paths))
    else:
        _print_plan(expansion)
        _print_data(expansion)
        _print_counts(expansion, counted, paths)
        _print_cost(cost, counted, chosen)
    if taken is not None:
        narrate(f"note: `prunectl run` refuses this: {taken}")


def _as_json(
    expansion: Expansion, counted: Preview, cost: Cost | None, paths: StorePaths
) -> dict[str, Any]:
    from prunectl.store.records.plan import on_disk

    study = expansion.study()
    _, stages = on_disk(study)
    return {
        "name": study.name,
        "question": study.question,
        "datasets": {
            name: {"classes": about.classes, "train": about.train, "test": about.test}
            for name, about in expansion.datasets.items()
        },
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
        "trial_list": [trial.as_dict() for trial in study.trials],
        "stage_list": [
            {"key": key, **msgspec.structs.asdict(stage)} for key, stage in stages.items()
        ],
    }


def _print_plan(expansion: Expansion) -> None:
    """Print what all trials have in common as lines, and what distinguishes them as a table."""
    out = console()
    plan = expansion.plan
    out.print(f"{plan.content.name}  {plan.question}".rstrip(), markup=False)
    rows = _rows(expansion)
    varied = [i for i in range(len(HEADINGS)) if len({row[i] for row, _ in rows}) > 1]
    for i, heading in enumerate(HEADINGS):
        if i not in varied:
            out.print(f"{heading:10}  {rows[0][0][i]}", markup=False)
    if varied:
        shown = ([*(row[i] for i in varied), str(count)] for row, count in rows)
        out.print(table([*(HEADINGS[i] for i in varied), "trials"], shown, left=range(len(varied))))


def _print_data(expansion: Expansion) -> None:
    """Print what each data set holds, and what of it is left out."""
    out = console()
    heading = "images"
    for name, about in expansion.datasets.items():
        outputs = ""
        if about.task == DEFAULT_TASK:
            outputs = f"{about.classes:,} {'class' if about.classes == 1 else 'classes'}, "
        out.print(
            f"{heading:10}  {name}: {outputs}{about.train:,} to train on, {about.test:,} to test",
            markup=False,
        )
        heading = ""
        for note in about.notes:
            out.print(f"            note: {note}", markup=False, soft_wrap=True)


def _print_counts(expansion: Expansion, counted: Preview, paths: StorePaths) -> None:
    out = console()
    # Against training every trial's path by itself, dense network included.
    saved = 1 - counted.steps / counted.steps_without_sharing
    out.print(
        f"trials      {counted.trials:,} on {numbers_text(trial.seeds for trial in expansion.trials)}\n"
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
    """One row for all trials that differ in their seeds and sparsities alone, with their number."""
    counts: Counter[tuple[str, ...]] = Counter()
    levels: dict[tuple[str, ...], set[str]] = {}
    for trial in expansion.trials:
        pruning = " ".join((trial.criterion, trial.scope, trial.granularity)).strip()
        names = (trial.network, trial.dataset, trial.recipe, trial.strategy, trial.retrain)
        row = (*names, trial.schedule, pruning)
        counts[row] += 1
        levels.setdefault(row, set()).update(trial.sparsities[1:])
    return [((*row, _range(levels[row])), count) for row, count in counts.items()]


def _range(sparsities: set[str]) -> str:
    if not sparsities:
        return "none"
    ordered = sorted(float(sparsity) for sparsity in sparsities)
    return f"{len(ordered)}: {ordered[0]:.4g} … {ordered[-1]:.4g}"


# a trial


def _show_trial(paths: StorePaths, trial: str, *, as_json: bool, plan_text: bool) -> None:
    from prunectl.results.show import trial_facts

    facts = trial_facts(paths, trial)
    if plan_text:
        typer.echo(facts.plan_text, nl=False)
    elif as_json:
        print_json(facts.as_json())
    else:
        _print_trial(facts)


def _print_trial(facts: TrialFacts) -> None:
    from prunectl.plan.seeds import as_toml

    out = console()
    trial, study = facts.found.trial, facts.found.study
    edited = {
        True: "which is unchanged",
        False: "which has been edited since",
        None: "which is not here now",
    }[facts.unchanged]
    plan = version_title(study.name, facts.found.version, facts.found.versions)
    lines = [
        ("trial", f"{trial.id}, cell {trial.cell}"),
        ("plan", f"{plan}, version {study.digest}, from {facts.plan_file}, {edited}"),
        ("its text", f"{facts.record_file}, or `prunectl show --trial {trial.id} --plan-text`"),
        *((name, value) for name, value in trial.labels.items() if value),
        *([] if trial.task == DEFAULT_TASK else [("task", trial.task)]),
        ("seed", str(trial.seeds) + (" (init/order/augment)" if trial.seeds.apart else "")),
        ("repeat", shlex.join(facts.command)),
        ("", f"this seed alone: --set {shlex.quote(as_toml(trial.seeds))}"),
    ]
    for name, value in lines:
        out.print(f"{name:12}{value}", markup=False, soft_wrap=True)
    runs = [_run_row(record) for record in facts.runs]
    out.print(table(RUN_HEADINGS, runs, left=range(len(RUN_HEADINGS))))
    stages = [_stage_row(stage, facts.metric) for stage in facts.stages]
    headings = [facts.metric.name if name == "score" else name for name in STAGE_HEADINGS]
    out.print(table(headings, stages, left=(2, 6, 7, 8)))


def _run_row(record: RunRecord) -> list[str]:
    commit = (record.git.commit or DASH)[:12] + (" + changes" if record.git.dirty else "")
    started = datetime.fromtimestamp(record.started or 0.0)
    return [
        record.run,
        started.isoformat(sep=" ", timespec="seconds"),
        record.host or DASH,
        ", ".join(record.devices) or DASH,
        record.driver or DASH,
        record.prunectl or DASH,
        record.packages.get("torch") or DASH,
        commit,
        shlex.join(record.argv),
    ]


def _stage_row(stage: StageFacts, metric: Metric) -> list[str]:
    result = stage.result or Result()

    def number(value: float | None, form: str) -> str:
        return DASH if value is None else format(value, form)

    return [
        str(stage.iteration),
        f"{float(stage.target_sparsity):.4g}",
        stage.state + (f", {result.flag}" if result.flag else ""),
        number(result.score, f".{metric.digits}f"),
        number(result.attempt or None, "d"),
        number(result.seconds, ".1f"),
        " + ".join(result.device_names) or result.device_name or DASH,
        str(result.versions.get("torch") or DASH),
        stage.stage[:16],
    ]
