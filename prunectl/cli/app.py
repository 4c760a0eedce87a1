"""The command line: one file per group of commands, heavy imports inside the commands.

stdout is data, stderr is narration. Errors of ours end in one message and their exit code; a traceback is a bug.
"""

from __future__ import annotations

import os
import sys

import typer

from prunectl.cli import bench, compare, control, export, plot, results, run, status, store, watch
from prunectl.cli import show as inspect
from prunectl.errors import ExitCode, PrunectlError

app = typer.Typer(
    name="prunectl",
    help="Declarative experiments in neural network pruning.",
    no_args_is_help=True,
    # Plain help: importing what draws boxes takes longer than all the rest (0.27 s in all, 0.17 s without).
    rich_markup_mode=None,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (run, watch, inspect, status, results, compare, plot, export, control):
    group.register(app)
app.add_typer(bench.app, name="bench")
app.add_typer(store.app, name="store")


def main() -> None:
    """Entry point of the `prunectl` command."""
    try:
        app()
    except PrunectlError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of stdout has gone (`prunectl sql … | head`): not worth a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)
