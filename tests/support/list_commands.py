"""The commands of `prunectl` with their arguments and options, as data: `python -m tests.support.list_commands`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

import typer

from prunectl.cli.app import app


def commands() -> dict[str, list[dict[str, Any]]]:
    """What each command takes, by its words; groups are listed with their own options."""
    return dict(_below("", typer.main.get_command(app)))


def _below(words: str, command: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield words, [_parameter(each) for each in command.params]
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(f"{words} {name}".strip(), inner)


def _parameter(parameter: Any) -> dict[str, Any]:
    """Names (an argument has one without dashes), and what may be given."""
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", str)
    repeated = get_origin(kind) is list
    kind = get_args(kind)[0] if repeated else kind
    return {
        "names": [*parameter.opts, *parameter.secondary_opts],
        "required": parameter.required,
        "flag": getattr(parameter, "is_flag", False),
        "repeated": repeated,
        "number": kind.__name__ if kind in (int, float) else None,
        "choices": _choices(kind),
    }


def _choices(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(each.value) for each in kind]
    return list(get_args(kind)) if get_origin(kind) is Literal else []


if __name__ == "__main__":
    print(json.dumps(commands()))
