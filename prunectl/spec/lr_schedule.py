"""Learning-rate schedules as short lists of segments: no torch, exact to cut and to compare.

A schedule is a tuple of `Segment`s laid end to end. Cutting a window out of one gives the segments that a
retraining follows; two windows with the same rates are equal values, however they came about, so that
learning-rate rewinding inside the last phase of a step schedule *is* fine-tuning of the same length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from prunectl.spec.ranges import Count, Real


class Segment(msgspec.Struct, frozen=True):
    """`steps` consecutive steps of a constant, linear or half-cosine learning rate.

    Step j of the segment lies at u = (offset + j) / span of its curve from `lr` to `end`:
    linear lr + (end − lr)·u, cosine end + (lr − end)·(1 + cos πu)/2 (Loshchilov & Hutter 2017, without restarts).
    A constant has `end`, `span` and `offset` at their defaults.
    """

    lr: Real
    """Rate at the beginning of the curve."""
    steps: Count
    """Optimizer steps of the segment."""
    shape: Literal["constant", "linear", "cosine"] = "constant"
    """What the curve is."""
    end: Real = 0.0
    """Rate at the end of the curve."""
    span: Count = 0
    """Steps of the whole curve."""
    offset: Count = 0
    """Step of the curve that the segment begins at, from 0."""

    def at(self, step: int) -> float:
        """The learning rate of the segment's step number `step`, counted from 0."""
        if self.shape == "constant":
            return self.lr
        u = (self.offset + step) / self.span
        if self.shape == "linear":
            return self.lr + (self.end - self.lr) * u
        return self.end + (self.lr - self.end) * (1 + math.cos(math.pi * u)) / 2


Schedule = tuple[Segment, ...]
MOST_SEGMENTS = 1023
"""So that their steps add up to a BIGINT; those of plans have up to 1,002 (`plan.schema.MOST_MILESTONES`)."""


def length(schedule: Sequence[Segment]) -> int:
    """Steps in the whole schedule."""
    return sum(segment.steps for segment in schedule)


def joined(segments: Sequence[Segment]) -> Schedule:
    """The same rates with empty segments dropped and equal constants merged: the canonical form."""
    out: list[Segment] = []
    for segment in segments:
        if segment.steps == 0:
            continue
        last = out[-1] if out else None
        if last is not None and last.shape == segment.shape == "constant" and last.lr == segment.lr:
            out[-1] = replace(last, steps=last.steps + segment.steps)
        else:
            out.append(segment)
    return tuple(out)


def constant(lr: float, steps: int) -> Schedule:
    """`steps` steps at one rate."""
    return joined([Segment(lr, steps)])


def stepwise(lr: float, total: int, milestones: Sequence[int], gamma: float) -> Schedule:
    """`lr`, multiplied by `gamma` at each milestone (a step number), for `total` steps.

    Rates are rounded to 12 significant digits, so that 0.1·0.1·0.1 is 0.001 and not 0.0010000000000000002.
    """
    edges = [0, *milestones, total]
    return joined(
        [
            Segment(float(f"{lr * gamma**i:.12g}"), max(0, min(b, total) - a))
            for i, (a, b) in enumerate(itertools.pairwise(edges))
        ]
    )


def decaying(shape: Literal["linear", "cosine"], lr: float, end: float, total: int) -> Schedule:
    """From `lr` at step 0 towards `end`, which step number `total` would have."""
    return joined([Segment(lr, total, shape, end, total)])


def warmed_up(schedule: Schedule, steps: int) -> Schedule:
    """The schedule with its first `steps` steps replaced by a linear ramp from 0 to the rate they end at.

    Step i of the ramp has target·(i + 1)/steps, so that no step is wasted on a rate of 0.
    """
    if steps == 0:
        return schedule
    target = at(schedule, steps) if steps < length(schedule) else at(schedule, steps - 1)
    ramp = Segment(0.0, steps, "linear", target, steps, 1)
    return joined([ramp, *window(schedule, steps, length(schedule) - steps)])


def window(schedule: Sequence[Segment], first: int, steps: int) -> Schedule:
    """Steps `first` … `first + steps − 1` of the schedule.

    Raises ValueError where the schedule does not have them all.
    """
    if first < 0 or steps < 0 or first + steps > length(schedule):
        raise ValueError(
            f"steps {first} to {first + steps} of a schedule with {length(schedule)} steps"
        )
    out: list[Segment] = []
    start = 0
    for segment in schedule:
        a = max(first, start) - start
        b = min(first + steps, start + segment.steps) - start
        if a < b:
            offset = segment.offset + a if segment.shape != "constant" else 0
            out.append(replace(segment, steps=b - a, offset=offset))
        start += segment.steps
    return joined(out)


def at(schedule: Sequence[Segment], step: int) -> float:
    """The learning rate of step number `step`, counted from 0.

    Raises IndexError past the end.
    """
    for segment in schedule:
        if step < segment.steps:
            return segment.at(step)
        step -= segment.steps
    raise IndexError("step past the end of the schedule")


def last_value(schedule: Sequence[Segment]) -> float:
    """The rate the schedule ends at: the last constant's, or the `end` its last curve runs to."""
    last = schedule[-1]
    return last.lr if last.shape == "constant" else last.end


def rates(schedule: Sequence[Segment], first: int = 0) -> Iterator[float]:
    """The rate of each step from `first` on."""
    for segment in schedule:
        for step in range(first, segment.steps):
            yield segment.at(step)
        first = max(0, first - segment.steps)
