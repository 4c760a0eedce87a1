"""The command line: a file for each command, and one line here.

stdout is data, stderr is narration. An error of ours ends in one message and its exit code; a traceback is a bug.
Commands import what is heavy inside their functions, because every command imports all of these files.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module

import typer

from prunectl.cli import bench, store
from prunectl.cli.support.terminal import lasting_streams, narrate
from prunectl.errors import ExitCode, PrunectlError
from prunectl.store.refusals import is_refusal, refused

COMMANDS = (
    "run",
    "watch",
    "show",
    "status",
    "rank",
    "sql",
    "compare",
    "plot",
    "export",
    "import_",
    "replicate",
    "cancel",
    "hold",
    "release",
    "retry",
    "priority",
    "stop",
    "drain",
    "undrain",
    "doctor",
)
"""Modules of this package in the order of `prunectl --help`; each has a function of its own name, the command."""

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
for name in COMMANDS:
    command = getattr(import_module(f"prunectl.cli.{name}"), name)
    app.command(name.rstrip("_"))(command)
app.add_typer(bench.app, name="bench")
app.add_typer(store.app, name="store")


def _arguments() -> list[str]:
    """Return the command's arguments; a query that begins with a comment is none of its options."""
    return [f" {word}" if re.match(r"--\s", word) else word for word in sys.argv[1:]]


def main() -> None:
    """Run the `prunectl` command."""
    with lasting_streams():
        try:
            try:
                app(args=_arguments())
            finally:
                sys.stdout.flush()
        except PrunectlError as error:
            narrate(f"error: {error}")
            sys.exit(error.exit_code)
        except OSError as error:
            if not is_refusal(error):
                raise
            narrate(f"error: {refused(error)}")
            sys.exit(ExitCode.STORE)
