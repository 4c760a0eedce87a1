"""`status`: how a store stands now, in a few lines or as JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from prunectl.text import DASH, duration, plural

if TYPE_CHECKING:  # reading a store takes 0.1 s to import, which `--help` must not pay
    from prunectl.monitor.snapshot import PlanView, RunningView, SchedulerView, Snapshot

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
    from prunectl.store import requests
    from prunectl.store.db import query

    sentences = [*unreadable, *requests.unreadable(paths)]
    try:
        query.bring_up_to_date(paths)
        found = query.left_out(paths, patience=1.0)
        sentences += (f"{paths.root / source} {text}" for source, text in found.items())
    except StoreError as error:
        narrate(f"results and logs were not looked at: {error}")
    return tuple(dict.fromkeys(text.replace(f"{paths.root}/", "") for text in sentences))


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
    for failure in snapshot.failures[:SHOWN]:
        what = narration.failure(failure.reason, failure.message)
        out.print(f"failed {failure.key[:8]}: {what}", markup=False)
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
