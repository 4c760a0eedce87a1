"""`status`: how a store stands now, in a few lines or as JSON."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.tables import console, print_json, table
from prunectl.cli.support.terminal import narrate
from prunectl.errors import StoreError
from prunectl.spec.state import State
from prunectl.store import narration
from prunectl.store.paths import StorePaths
from prunectl.text import DASH, duration, plural, sparsity

if TYPE_CHECKING:  # reading a store takes 0.1 s to import, which `--help` must not pay
    from prunectl.monitor.snapshot import PlanView, RunningView, SchedulerView, Snapshot
    from prunectl.spec.trial import Trial

SHOWN = 20
"""Failures that are printed; the JSON has them all."""
VERSIONS = 5
"""Of a plan that are listed, beside the current one; the JSON has them all."""


def status(
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what is running, waiting, done and failed. States are computed from locks and files."""
    from prunectl.monitor.watcher import Watcher

    paths = StorePaths.locate(store)
    if not paths.plans.is_dir():
        raise StoreError(f"{paths.root} holds no plans; `prunectl run PLAN` makes some")
    snapshot = Watcher(paths).snapshot()
    snapshot = replace(snapshot, unreadable=_left_out(paths, snapshot.unreadable))
    if as_json:
        print_json(_as_json(snapshot))
    else:
        _print(snapshot)


def _left_out(paths: StorePaths, unreadable: Sequence[str]) -> tuple[str, ...]:
    """Name every file of the store that is no record, or has lines that are none, once.

    `unreadable` are sentences about those that the snapshot has met.
    """
    from prunectl.cli.support.fresh_results import bring_up_to_date
    from prunectl.store import requests
    from prunectl.store.db import query
    from prunectl.store.records import dataset

    sentences = [*unreadable, *requests.unreadable(paths), *dataset.unreadable(paths)]
    try:
        bring_up_to_date(paths)
        found = query.left_out(paths, patience=1.0)
        named = "\n".join(sentences)
        sentences += (
            f"{source} {text}" for source, text in found.items() if f"/{source}" not in named
        )
    except StoreError as error:
        narrate(f"results and logs were not looked at: {error}")
    return tuple(text.replace(f"{paths.root}/", "") for text in sentences)


def _as_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return the snapshot for scripts, with the fields of each trial beside its state."""
    content: dict[str, Any] = msgspec.to_builtins(snapshot)
    for view, made in zip(snapshot.trials, content["trials"], strict=True):
        made |= {**view.trial.as_dict(), "labels": view.trial.labels}
    return content


def _print(snapshot: Snapshot) -> None:
    out = console()
    out.print(_scheduler(snapshot.scheduler), markup=False)
    if snapshot.scheduler.trouble:
        out.print(f"trouble: {snapshot.scheduler.trouble}", markup=False)
    for problem in snapshot.unreadable:
        out.print(f"left out: {problem}", markup=False)
    rows = [
        (
            plan.title,
            ", ".join(f"{count} {state}" for state, count in plan.counts.items() if count),
            f"{plan.stages_done}/{plan.stages}",
            f"{plan.steps_done / max(1, plan.steps):.1%}",
        )
        for plan in snapshot.plans
    ]
    out.print(table(("plan", "trials", "stages done", "steps"), rows, left=(0, 1)))
    _print_versions(snapshot.plans)
    if snapshot.running:
        headings = ("running", "progress", "score", "device", "left")
        out.print(table(headings, (_running(stage) for stage in snapshot.running)))
    if snapshot.scheduler.alive:
        for device in snapshot.devices:
            if device.state != "open":
                out.print(f"{device.id} is {device.state} {device.reason}".rstrip(), markup=False)
            elif device.reason:
                out.print(f"{device.id}: {device.reason}", markup=False)
    for line in _failed(snapshot):
        out.print(line, markup=False, soft_wrap=True)
    for plan in snapshot.plans:
        if plan.stopped:
            out.print(f"{plan.name}: {plan.stopped}", markup=False)
    unfinished = sum(snapshot.counts.get(s, 0) for s in (State.INTERRUPTED, State.WAITING))
    if not snapshot.scheduler.alive and unfinished:
        out.print("to go on: prunectl run PLAN, with the same --store")


def _print_versions(plans: Sequence[PlanView]) -> None:
    """List the versions of plans that have several."""
    out = console()
    for plan in plans:
        listed = [
            version
            for version in plan.versions
            if version.current or version.number > len(plan.versions) - VERSIONS
        ]
        if more := len(plan.versions) - len(listed):
            out.print(f"{plan.name}: {plural(more, 'earlier version')}, which --json lists")
        for version in listed:
            about = f"{plan.name} v{version.number}: {version.file or 'no file'}"
            about += f", {plural(version.trials, 'trial')}, last run {_moment(version.used)}"
            look = f"prunectl rank {plan.name} --version {version.number}"
            about += "; current" if version.current else f"; {look}"
            out.print(about, markup=False, soft_wrap=True)


def _moment(time: float | str | None) -> str:
    """Write a time as a person's clock shows it; old records have it as text."""
    if not isinstance(time, int | float):
        return str(time or DASH)
    return datetime.fromtimestamp(time).isoformat(sep=" ", timespec="minutes")


def _failed(snapshot: Snapshot) -> Iterator[str]:
    """Yield a line for each stage that failed, under the id of a trial that needs it, which `retry` takes."""
    if not snapshot.failures:
        return
    views = {view.trial.id: view for view in snapshot.trials}
    several = len({(v.trial.plan, v.trial.network, v.trial.dataset) for v in views.values()}) > 1
    for failure in snapshot.failures[:SHOWN]:
        needing = [views[trial] for trial in failure.trials]
        # A cancelled one may need it, too.
        trial = next((v for v in needing if v.state is State.FAILED), needing[0]).trial
        where = f"{trial.plan} {trial.network} {trial.dataset} " if several else ""
        what = narration.failure(failure.reason, failure.message)
        more = f" ({plural(len(needing), 'trial')} need it)" if len(needing) > 1 else ""
        yield (
            f"failed {_short(trial.id, views)} {where}{trial.strategy} · seed {trial.seeds}, "
            f"{_stage(trial, failure.key)}: {what}{more}"
        )
    if (left := len(snapshot.failures) - SHOWN) > 0:
        yield f"… {left} more, which --json lists"
    yield "to try one again: prunectl retry ID, or `state=failed` for all, with the same --store"


def _short(trial: str, others: Collection[str]) -> str:
    """Return so much of a trial's id that no other begins so, and 8 digits at least."""
    lengths = range(8, len(trial))
    alone = (n for n in lengths if sum(other.startswith(trial[:n]) for other in others) == 1)
    return trial[: next(alone, len(trial))]


def _stage(trial: Trial, key: str) -> str:
    """Name a stage of a trial, or the replay that one of them starts from."""
    if key not in trial.path:
        return "rewind point"
    iteration = trial.path.index(key)
    return f"sparsity {sparsity(trial.sparsities[iteration])}" if iteration else "dense network"


def _scheduler(view: SchedulerView) -> str:
    if not view.alive:
        return "no scheduler is running"
    beat = f"last beat {duration(view.age)} ago" if view.age is not None else ""
    eta = time.strftime("%H:%M", time.localtime(view.eta)) if view.eta else DASH
    return f"scheduler running, pid {view.pid}, {beat}, ETA {eta}"


def _running(stage: RunningView) -> tuple[str, ...]:
    name = "rewind point" if stage.replay else stage.labels.get("strategy", "")
    if stage.iteration:
        name += f" {float(stage.sparsity):.4g}"
    elif not stage.replay:
        name = "dense"
    return (
        f"{name} · seed {stage.labels.get('seed', '')}",
        f"{stage.step}/{stage.steps}",
        DASH if stage.score is None else stage.metric.text(stage.score),
        stage.device or DASH,
        duration(stage.eta),
    )
