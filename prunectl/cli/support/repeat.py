"""`show --trial`: how to repeat a trial."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from prunectl.results.repeat import Repeat, StageFacts


def show_trial(trial: str, store: Path | None, *, as_json: bool, plan_text: bool) -> None:
    """Print it, as text, as JSON, or only its plan."""
    from prunectl.results.repeat import repeat
    from prunectl.store.paths import StorePaths

    facts = repeat(StorePaths.locate(store), trial)
    if plan_text:
        typer.echo(facts.text, nl=False)
    elif as_json:
        typer.echo(json.dumps(facts.as_json(), indent=1))
    else:
        _print(facts)


def _print(facts: Repeat) -> None:
    from prunectl.cli.support.tables import console, table

    out = console()
    trial, study = facts.found.trial, facts.found.study
    said = {
        True: "which is unchanged",
        False: "which has been edited since",
        None: "which is not here now",
    }[facts.unchanged]
    lines = [
        ("trial", f"{trial.trial}, cell {trial.cell}"),
        ("plan", f"{study.name}, version {study.digest}, from {facts.plan_file}, {said}"),
        ("its text", f"{facts.record_file}, or `prunectl show --trial {trial.trial} --plan-text`"),
        *((name, value) for name, value in trial.labels.items() if value),
        ("seed", str(trial.seed)),
        ("repeat", shlex.join(facts.command)),
        ("", f"this seed alone: --set {shlex.quote(f'seeds=[{trial.seed}]')}"),
    ]
    for name, value in lines:
        out.print(f"{name:12}{value}", markup=False, soft_wrap=True)
    heads = (
        "run",
        "started",
        "host",
        "devices",
        "driver",
        "prunectl",
        "torch",
        "commit",
        "command",
    )
    rows = [_run(record) for record in facts.runs]
    out.print(table(heads, rows, left=range(len(heads))))
    heads = (
        "iteration",
        "sparsity",
        "state",
        "accuracy",
        "attempts",
        "seconds",
        "device",
        "torch",
        "stage",
    )
    out.print(table(heads, [_stage(each) for each in facts.stages], left=(2, 6, 7, 8)))


def _run(record: dict[str, Any]) -> list[str]:
    git = record.get("git") or {}
    commit = str(git.get("commit") or "–")[:12] + (" + changes" if git.get("dirty") else "")
    started = record.get("started")
    when = (
        datetime.fromtimestamp(started).isoformat(sep=" ", timespec="seconds")
        if isinstance(started, int | float)
        else str(started)
    )
    argv = record.get("argv") or []
    return [
        str(record.get("run")),
        when,
        str(record.get("host")),
        ", ".join(record.get("devices") or []) or "–",
        str(record.get("driver") or "–"),
        str(record.get("prunectl") or "–"),
        str((record.get("packages") or {}).get("torch") or "–"),
        commit,
        shlex.join(map(str, argv)) if isinstance(argv, list) else str(argv),
    ]


def _stage(each: StageFacts) -> list[str]:
    result = each.result

    def number(name: str, form: str) -> str:
        value = result.get(name)
        return "–" if value is None else format(value, form)

    return [
        str(each.iteration),
        f"{float(each.target_sparsity):.4g}",
        each.state + (f", {result['flag']}" if result.get("flag") else ""),
        number("accuracy", ".2f"),
        number("attempt", "d"),
        number("seconds", ".1f"),
        str(result.get("device_name") or "–"),
        str((result.get("versions") or {}).get("torch") or "–"),
        each.stage[:16],
    ]
