"""What `prunectl doctor` finds: one thing of this machine, whether it will do, and what to do where it will not."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Health = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    about: Annotated[str, Meta(description="what was looked at, a device's by its name first")]
    health: Annotated[
        Health,
        Meta(description="warning: works, but not as it could; error: stages will fail by it"),
    ]
    found: Annotated[str, Meta(description="what was found")]
    advice: Annotated[str, Meta(description="what to do about it; empty where nothing need be")] = (
        ""
    )


def ok(about: str, found: str) -> Finding:
    """Return a finding that needs nothing done."""
    return Finding(about, "ok", found)


class Examination(msgspec.Struct, frozen=True):
    """What `doctor --json` prints."""

    findings: tuple[Finding, ...]
