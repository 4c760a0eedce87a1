"""Requests to the scheduler as values, and the function that carries them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prunectl.errors import PrunectlError
from prunectl.store import requests
from prunectl.store.paths import StorePaths
from prunectl.store.requests import Answer


@dataclass(frozen=True)
class Request:
    """One request of the user."""

    do: Literal["cancel", "hold", "release", "retry", "priority", "stop", "drain", "undrain"]
    trials: tuple[str, ...] = ()
    change: int | None = None
    """Of the priority."""
    device: str = ""


RequestSender = Callable[[Request], Answer]
"""Carries a request and returns the answer; called in a thread."""


def request_sender(paths: StorePaths) -> RequestSender:
    """Return a function that asks the store's scheduler, or leaves the request for the next one."""

    def send(request: Request) -> Answer:
        try:
            match request.do:
                case "stop":
                    return requests.stop(paths)
                case "drain":
                    return requests.drain(paths, request.device)
                case "undrain":
                    return requests.undrain(paths, request.device)
                case do:
                    return requests.change_trials(paths, do, request.trials, change=request.change)
        except (PrunectlError, OSError) as error:
            return Answer(False, str(error), by="nobody")

    return send
