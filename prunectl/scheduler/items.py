"""What the queue is made of: stages with their states, places to run, and the chains that decide the order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction


class State(StrEnum):
    """Of a stage or a trial."""

    WAITING = "waiting"
    """For a slot, or for what it needs."""
    HELD = "held"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"
    """What it needs has failed, or its study was stopped."""
    CANCELLED = "cancelled"


FINAL_REASONS = frozenset({"nonfinite"})
"""Failures that would only repeat themselves."""
CROWDED_REASONS = frozenset({"oom", "lost", "hung"})
"""Failures that a neighbour may have caused."""


@dataclass(slots=True)
class Item:
    """A stage in the queue."""

    key: str
    needs: set[str]
    """Those that are not done yet."""
    trials: set[str]
    cost: float
    order: int
    kind: Hashable = None
    """Stages of a kind take as much of a device."""
    state: State = State.WAITING
    """WAITING, RUNNING, DONE or FAILED; the others follow from its trials and from what it needs."""
    chain: float = 0.0
    """Cost of the longest chain from here on, itself included."""
    attempts: int = 0
    """Attempts that failed and count."""
    crowd: int | None = None
    """How many stages may run on its device at a time, itself included; None for as many as there are
    slots."""
    earliest: int = 0
    """Number of dispatches to let go first."""
    postponed: bool = False
    device: str | None = None
    reason: str = ""
    """Of its failure."""
    blocked_by: str | None = None
    version: int = 0
    """Entries of the heap with another version are stale."""


@dataclass(slots=True)
class Place:
    """A device as the queue sees it."""

    slots: int
    """The most there may be."""
    open: bool = True
    running: set[str] = field(default_factory=set)
    reserved: str | None = None
    """A stage that waits for the device to empty."""
    lanes: Callable[[Hashable], int] | None = None
    """How many stages of a kind fill it; None where the slots alone count."""

    def share(self, kind: Hashable) -> Fraction:
        """How much of the device a stage takes."""
        return Fraction(1, self.slots if self.lanes is None else self.lanes(kind))


@dataclass(frozen=True)
class Dispatch:
    """A decision: this stage on this device, now."""

    key: str
    device: str
    attempt: int


def measure_chains(
    items: Mapping[str, Item],
    children: Mapping[str, Sequence[str]],
    wanted: Callable[[Item], bool],
) -> None:
    """Set the `chain` of every item: Kahn's algorithm from the ends backwards.

    Work that is done, or that no trial waits for, counts nothing.
    """
    left = {key: len(children.get(key, ())) for key in items}
    parents: dict[str, list[str]] = {}
    for key, below in children.items():
        for child in below:
            parents.setdefault(child, []).append(key)
    longest: dict[str, float] = {}
    ends = [key for key, count in left.items() if count == 0]
    while ends:
        key = ends.pop()
        item = items[key]
        counts = item.state is not State.DONE and wanted(item)
        item.chain = longest.get(key, 0.0) + (item.cost if counts else 0.0)
        for parent in parents.get(key, ()):
            longest[parent] = max(longest.get(parent, 0.0), item.chain)
            left[parent] -= 1
            if left[parent] == 0:
                ends.append(parent)
