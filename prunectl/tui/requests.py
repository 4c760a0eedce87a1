"""Requests to the scheduler as values, and how one is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunectl.errors import PrunectlError
from prunectl.store import requests
from prunectl.store.paths import StorePaths
from prunectl.store.records.requests import Drain, Stop, Undrain
from prunectl.store.requests import Answer


@dataclass(frozen=True)
class Request:
    """One request of the user."""

    do: Literal["cancel", "hold", "release", "retry", "priority", "stop", "drain", "undrain"]
    trials: tuple[str, ...] = ()
    change: int | None = None
    """Of the priority."""
    device: str = ""


def send_request(paths: StorePaths, request: Request) -> Answer:
    """Ask the store's scheduler, or leave the request for the next one. Returns the answer, also of a failure."""
    try:
        match request.do:
            case "stop":
                return requests.request(paths, Stop())
            case "drain":
                return requests.request(paths, Drain(device=request.device))
            case "undrain":
                return requests.request(paths, Undrain(device=request.device))
            case do:
                return requests.change_trials(paths, do, request.trials, change=request.change)
    except (PrunectlError, OSError) as error:
        return Answer(False, str(error), by="nobody")
