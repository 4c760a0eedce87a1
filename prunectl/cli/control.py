"""Requests to the scheduler of a store: obeyed by the one that runs, remembered for the next one otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.options import StoreOption
from prunectl.errors import ExitCode

if TYPE_CHECKING:
    from prunectl.store.requests import Answer, TrialAction

Trials = Annotated[
    list[str] | None,
    typer.Argument(
        help="Trials: an id or its beginning, `all`, or conditions such as strategy=lr-rewind,seed=0.",
        show_default=False,
    ),
]

Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="SQL",
        help="Only trials of which this holds, by columns of trials or iterations: \"strategy = 'fine-tune'\".",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (cancel, hold, release, retry, priority, stop, drain, undrain):
        app.command()(command)


def cancel(trials: Trials = None, where: Where = None, store: StoreOption = None) -> None:
    """Stop trials and leave them, until `retry`; what others share goes on."""
    _change("cancel", trials, where, store)


def hold(trials: Trials = None, where: Where = None, store: StoreOption = None) -> None:
    """Pause trials, until `release`."""
    _change("hold", trials, where, store)


def release(trials: Trials = None, where: Where = None, store: StoreOption = None) -> None:
    """Let held trials go on."""
    _change("release", trials, where, store)


def retry(trials: Trials = None, where: Where = None, store: StoreOption = None) -> None:
    """Try failed and cancelled trials again."""
    _change("retry", trials, where, store)


def priority(
    value: Annotated[int, typer.Option("--to", help="Higher runs first; the default is 0.")],
    trials: Trials = None,
    where: Where = None,
    store: StoreOption = None,
) -> None:
    """Run trials earlier or later than the others."""
    _change("priority", trials, where, store, value)


def stop(
    now: Annotated[bool, typer.Option("--now", help="Without finishing the epoch.")] = False,
    store: StoreOption = None,
) -> None:
    """Ask the running scheduler to finish its epochs, checkpoint and end."""
    from prunectl.store import requests as control
    from prunectl.store.paths import StorePaths

    _tell(control.stop(StorePaths.locate(store), now=now))


def drain(device: str, store: StoreOption = None) -> None:
    """Move stages off a device and give it back, until `undrain`."""
    from prunectl.store import requests as control
    from prunectl.store.paths import StorePaths

    _tell(control.drain(StorePaths.locate(store), device))


def undrain(device: str, store: StoreOption = None) -> None:
    """Use a device again."""
    from prunectl.store import requests as control
    from prunectl.store.paths import StorePaths

    _tell(control.undrain(StorePaths.locate(store), device))


def _change(
    do: TrialAction,
    trials: list[str] | None,
    where: str | None,
    store: Path | None,
    value: int | None = None,
) -> None:
    from prunectl.errors import ControlError
    from prunectl.store import requests as control
    from prunectl.store.paths import StorePaths

    if not trials and where is None:
        raise ControlError("which trials? Name some, `all`, or a condition: --where SQL")
    paths = StorePaths.locate(store)
    _tell(control.change_trials(paths, do, trials or (), where=where, value=value))


def _tell(answer: Answer) -> None:
    typer.echo(answer.text, err=not answer.ok)
    if not answer.ok:
        raise typer.Exit(ExitCode.USAGE)
