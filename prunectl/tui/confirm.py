"""Requests to the scheduler as values: what is asked, how it is put to the user, and who carries it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from prunectl.errors import PrunectlError
from prunectl.store import requests as control
from prunectl.store.paths import StorePaths
from prunectl.store.requests import Answer, TrialAction

Do = Literal["cancel", "hold", "release", "retry", "priority", "stop", "drain", "undrain"]


@dataclass(frozen=True)
class Request:
    """One wish of the user."""

    do: Do
    trials: tuple[str, ...] = ()
    change: int = 0
    """Of the priority."""
    device: str = ""


Asker = Callable[[Request], Answer]
"""Carries a request and brings the answer; called in a thread."""


def asker(paths: StorePaths) -> Asker:
    """The one that asks the store's scheduler, or leaves word for the next."""

    def ask(request: Request) -> Answer:
        try:
            return _ask(paths, request)
        except (PrunectlError, OSError) as error:
            return Answer(False, str(error), by="nobody")

    return ask


def _ask(paths: StorePaths, request: Request) -> Answer:
    match request.do:
        case "stop":
            return control.stop(paths)
        case "drain":
            return control.drain(paths, request.device)
        case "undrain":
            return control.undrain(paths, request.device)
        case "priority":
            return control.change_trials(paths, "priority", request.trials, change=request.change)
    return control.change_trials(paths, cast(TrialAction, request.do), request.trials)


def command(request: Request, store: str) -> str:
    """The same request on the command line."""
    import shlex

    words = ["prunectl", request.do, *request.trials]
    if request.device:
        words.append(request.device)
    return shlex.join([*words, "--store", store])
