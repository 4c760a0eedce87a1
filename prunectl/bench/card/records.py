"""What `bench card` keeps: an order to a part's process, its outcome, and the results file of all parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from prunectl.bench.records import Machine
from prunectl.spec.ranges import Amount

Status = Literal["done", "skipped", "failed", "limit"]


class Order(msgspec.Struct, frozen=True):
    """What a part's process is started with."""

    step: Annotated[str, Meta(description="name of the step")]
    part: Annotated[str, Meta(description="name of the part within it")]
    folder: Annotated[str, Meta(description="of the results; what parts share is in `work` there")]
    device: Annotated[str, Meta(description="as torch names it, such as cuda:0")]
    quick: Annotated[bool, Meta(description="sizes that try everything and measure nothing")] = (
        False
    )

    @property
    def work(self) -> Path:
        """The folder for what parts leave to each other, such as a study that others are compared with."""
        return Path(self.folder, "work")


class Check(msgspec.Struct, frozen=True):
    """Something that must be so."""

    what: Annotated[str, Meta(description="what must be so")]
    passed: Annotated[bool, Meta(description="whether it was")]
    found: Annotated[str, Meta(description="what was found")] = ""


class Figure(msgspec.Struct, frozen=True):
    """A number that was measured."""

    label: Annotated[str, Meta(description="what was measured")]
    value: Annotated[float | None, Meta(description="null where it is not finite")]
    unit: Annotated[str, Meta(description="such as s/epoch")]


class Outcome(msgspec.Struct, frozen=True):
    """What a part's process prints."""

    checks: tuple[Check, ...] = ()
    figures: tuple[Figure, ...] = ()
    skipped: Annotated[str, Meta(description="why nothing was done; empty where it was")] = ""


class PartResult(msgspec.Struct, frozen=True):
    """A part that has ended."""

    step: str
    part: str
    status: Annotated[
        Status, Meta(description="failed: it raised or crashed; limit: it was killed at its limit")
    ]
    seconds: Annotated[Amount, Meta(description="of its process, start included")]
    ended: Annotated[float, Meta(description="Unix seconds")]
    device: Annotated[str, Meta(description="as torch names it")]
    outcome: Outcome = Outcome()
    message: Annotated[str, Meta(description="why it failed")] = ""

    @property
    def name(self) -> str:
        """Step and part, as in ``slots/4``."""
        return f"{self.step}/{self.part}"

    @property
    def wrong(self) -> bool:
        """Whether the part failed or something was not as it must be."""
        failed = any(not check.passed for check in self.outcome.checks)
        return failed or self.status in ("failed", "limit")


class Card(msgspec.Struct, frozen=True):
    """The results file."""

    machine: Machine
    devices: Annotated[tuple[str, ...], Meta(description="models of the CUDA devices")]
    quick: bool
    parts: tuple[PartResult, ...] = ()

    def result(self, step: str, part: str) -> PartResult | None:
        """Return the result of a part; None where it is lacking."""
        found = (each for each in self.parts if (each.step, each.part) == (step, part))
        return next(found, None)
