"""Requests to a scheduler, `control/requests/<id>.json`, and in its log with their answers (`scheduler_log`)."""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from prunectl.spec.ranges import SMALL, Moment
from prunectl.store.locks import process_name
from prunectl.text import plural

Rank = Annotated[int, Meta(ge=-SMALL, le=SMALL)]
"""A priority, or a change of one."""
Trials = Annotated[tuple[str, ...], Meta(description="ids of the trials")]


class Asked(msgspec.Struct, tag_field="do", omit_defaults=True, kw_only=True):
    """What every request has; `sign` fills it in."""

    id: Annotated[str, Meta(description="the file's name without .json, in the order of time")] = ""
    time: Annotated[Moment, Meta(description="when it was asked, Unix seconds")] = 0.0
    by: Annotated[str, Meta(description="who asks, in words")] = ""


class TrialRequest(Asked):
    """An action on trials."""

    trials: Trials = ()


class Cancel(TrialRequest, tag="cancel"):
    """Take trials out until they are retried."""


class Hold(TrialRequest, tag="hold"):
    """Let trials rest until they are released."""


class Release(TrialRequest, tag="release"):
    """End a hold."""


class Retry(TrialRequest, tag="retry"):
    """Give cancelled and failed trials a fresh start."""


class Priority(TrialRequest, tag="priority"):
    """Set or change the priority of trials; higher runs first, 0 is usual."""

    value: Annotated[
        Rank | None, Meta(description="the priority to set; null where `change` says it")
    ] = None
    change: Annotated[
        Rank | None, Meta(description="what to add to the priority; null where `value` says it")
    ] = None


class Stop(Asked, tag="stop"):
    """End the run."""

    now: Annotated[bool, Meta(description="whether not to wait for checkpoints")] = False


class AddPlan(Asked, tag="add-plan"):
    """Queue a plan of the store."""

    plan: Annotated[str, Meta(description="digest of the plan's record")]


class Drain(Asked, tag="drain"):
    """Take no more stages on a device."""

    device: Annotated[str, Meta(description="id of the device")]


class Undrain(Asked, tag="undrain"):
    """Use a device again."""

    device: Annotated[str, Meta(description="id of the device")]


TrialAction = Literal["cancel", "hold", "release", "retry", "priority"]
AnyTrialRequest = Cancel | Hold | Release | Retry | Priority
Request = AnyTrialRequest | Stop | AddPlan | Drain | Undrain

PAST = {"cancel": "cancelled", "hold": "held", "release": "released", "retry": "retried"}
"""What was done to trials, in words."""

R = TypeVar("R", bound=Asked)


def sign(request: R) -> R:
    """Fill in a request's id, time and author: this user and moment."""
    request.id = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    request.time = time.time()
    request.by = process_name()
    return request


def done_text(request: AnyTrialRequest) -> str:
    """Return the action in words: "cancelled 3 trials"."""
    word = PAST.get(kind(request), "set the priority of")
    return f"{word} {plural(len(request.trials), 'trial')}"


def kind(request: Asked) -> str:
    """Return a request's name on the disk, such as ``add-plan``."""
    tag = request.__struct_config__.tag
    assert isinstance(tag, str)
    return tag
