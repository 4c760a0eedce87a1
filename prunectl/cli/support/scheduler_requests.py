"""What the commands that change a run have in common: how trials are named, sending a request, printing its answer.

A running scheduler carries a request out and answers. Without one, what concerns trials is recorded for the next run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.errors import ControlError, ExitCode
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:  # importing it takes 0.1 s, and every `prunectl --help` imports this file
    from prunectl.store.records.requests import Request, TrialAction
    from prunectl.store.requests import Answer

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


def change_trials(
    action: TrialAction,
    trials: list[str] | None,
    where: str | None,
    store: Path | None,
    value: int | None = None,
) -> None:
    """Apply an action to the trials named, print the answer, and exit with status 2 where it was refused.

    Raises ControlError where no trial is named, or a name matches none.
    """
    from prunectl.store import requests

    if not trials and where is None:
        raise ControlError("which trials? Name some, `all`, or a condition: --where SQL")
    paths = StorePaths.locate(store)
    _report(requests.change_trials(paths, action, trials or (), where=where, value=value))


def ask_scheduler(store: Path | None, request: Request) -> None:
    """Send a request to the running scheduler, print the answer, and exit with status 2 where it was refused.

    Raises ControlError where no scheduler is running.
    """
    from prunectl.store import requests

    _report(requests.request(StorePaths.locate(store), request))


def _report(answer: Answer) -> None:
    typer.echo(answer.text, err=not answer.ok)
    if not answer.ok:
        raise typer.Exit(ExitCode.USAGE)
