"""How many stages share a device where the user says `auto`: found by measuring, without clocks, processes or files.

A stage takes a share of its device: a whole n-th where n of its kind may run there side by side. The shares of what
runs on a device add up to at most the whole device, and so do their memories, because n is never more than fit.

CUDA  A kind that was never measured has the device to itself. From then on n is doubled, while the device does at
      least 5 % more steps a second with twice as many and has memory for them; then it is settled, and falls only
      where memory ran out after all. So it never swings to and fro, and what gains nothing from neighbours has none.
CPU   One stage per core, as always, but no more than there is memory for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from prunectl.scheduler.devices.base import Device, Usage
from prunectl.scheduler.eta import Kind

GAIN = 1.05
"""Twice as many lanes have to be worth this much in steps a second."""
ROOM = 0.9
"""Of the memory that was free at first: the rest is for CUDA's context, fragments and what stages need only briefly."""


@dataclass(frozen=True)
class Change:
    """Another number of stages of a kind on a device."""

    kind: Kind
    lanes: int
    settled: bool
    """It goes up no more."""
    memory: int | None
    """Bytes per stage."""
    reason: str

    def to_json(self) -> dict[str, Any]:
        """As in the scheduler's log."""
        fields = asdict(self)
        return {"of": list(fields.pop("kind")), **fields}


def settled(records: Iterable[Mapping[str, Any]], model: str) -> list[Change]:
    """What the scheduler's log says of devices of a model."""
    fields = ("lanes", "settled", "memory", "reason")
    return [
        Change(tuple(record["of"]), *(record[name] for name in fields))
        for record in records
        if record["device_name"] == model
    ]


@dataclass
class _Level:
    """What is known of a kind."""

    lanes: int
    settled: bool
    memory: int | None = None
    among: int = 0
    """How many shared the process when `memory` was measured: among more, what they have in common weighs less."""
    seconds: dict[int, float] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)

    def rate(self, lanes: int, enough: float, steps: int) -> float | None:
        """Steps a second, all lanes together; None until measured for `enough` seconds and so many steps."""
        seconds, done = self.seconds.get(lanes, 0.0), self.steps.get(lanes, 0)
        return done / seconds if seconds >= enough and done >= steps else None


class Capacity:
    """Of one device."""

    def __init__(
        self,
        device: Device,
        usage: Usage,
        known: Iterable[Change] = (),
        enough: float = 20.0,
        steps: int = 1000,
    ) -> None:
        """`usage` is that of others, before any worker has started; `known` what earlier runs settled; `enough`
        the seconds of training side by side after which its speed counts as measured, if so many steps were
        done in them: workers tell of steps 16 at a time, which must not decide about 5 %."""
        self._enough = enough, steps
        self.most = device.slots
        self.measures = device.kind != "cpu"
        total = usage.memory_total or device.memory
        self.memory = (
            None if total is None else int(ROOM * max(0, total - (usage.memory_used or 0)))
        )
        """Bytes that stages may take together; None where the system does not tell."""
        self._levels: dict[Hashable, _Level] = {}
        for change in known:
            lanes = min(change.lanes, self.most)
            self._levels[change.kind] = _Level(lanes, change.settled, change.memory)
        self._last: tuple[float, dict[str, int]] | None = None

    @property
    def unknown(self) -> int:
        """How many of a kind that was never measured."""
        return 1 if self.measures else self.most

    def lanes(self, kind: Hashable) -> int:
        """How many of the kind may run at a time, if nothing else does; at least 1."""
        level = self._levels.get(kind)
        return self.unknown if level is None else max(1, min(level.lanes, self._fit(level)))

    def _fit(self, level: _Level) -> int:
        if self.memory is None or not level.memory:
            return self.most
        return self.memory // level.memory

    def _level(self, kind: Kind) -> _Level:
        return self._levels.setdefault(kind, _Level(self.unknown, settled=not self.measures))

    def weigh(self, kind: Kind, memory: int, among: int) -> Change | None:
        """A process in which `among` stages of the kind shared memory has used so many bytes."""
        level, before = self._level(kind), self.lanes(kind)
        each = -(-memory // among)
        if among > level.among or (among == level.among and each > (level.memory or 0)):
            level.memory, level.among = each, among
        if self.lanes(kind) == before:
            return None
        return self._change(kind, f"{_size(each)} each of the {_size(self.memory or 0)} there are")

    def beat(self, now: float, steps: Mapping[str, int], kind: Kind | None) -> Change | None:
        """Steps done by each of the stages that run on the device, all there are, at `now` (seconds).

        `kind` is None where they are of several, or where some have not begun: nothing is learnt from that.
        """
        last, self._last = self._last, None
        if kind is None or not steps or not self.measures:
            return None
        self._last = now, dict(steps)
        if last is None or last[1].keys() != steps.keys():
            return None
        level, lanes = self._level(kind), len(steps)
        level.seconds[lanes] = level.seconds.get(lanes, 0.0) + now - last[0]
        level.steps[lanes] = level.steps.get(lanes, 0) + sum(
            steps[key] - last[1][key] for key in steps
        )
        return None if level.settled else self._climb(kind, level)

    def _climb(self, kind: Kind, level: _Level) -> Change | None:
        """Twice as many, or as many as before, once it is known what the present number is worth."""
        rate = level.rate(level.lanes, *self._enough)
        if rate is None or (self.memory is not None and level.memory is None):
            return None
        fewer = level.rate(level.lanes // 2, *self._enough) if level.lanes > 1 else None
        said = f"{rate:.3g} steps/s"
        if fewer is not None:
            said = f"{rate / fewer:.2f}× the steps/s of {level.lanes // 2}"
            if rate < GAIN * fewer:
                level.lanes, level.settled = level.lanes // 2, True
                return self._change(kind, f"{2 * level.lanes} do {said}")
        twice = 2 * level.lanes
        if twice > min(self.most, self._fit(level)):
            level.settled = True
            why = "no more are tried" if twice > self.most else f"no memory for {twice}"
            return self._change(kind, f"{level.lanes} do {said}, {why}")
        level.lanes = twice
        return self._change(kind, f"{twice // 2} do {said}: twice as many are tried")

    def weighed(self, kind: Kind) -> bool:
        """Whether it is known what memory a stage of the kind takes."""
        return kind in self._levels and self._levels[kind].memory is not None

    def overflowed(self, kind: Kind, own: int, crowd: int) -> Change | None:
        """A stage of the kind ran out of memory among so many of its `own` kind and a `crowd` of all kinds, itself
        included. Several that fail together are one reason to have fewer, not one each."""
        level = self._level(kind)
        if own > level.lanes:  # begun when there were more
            return None
        fewer = max(1, min(self.lanes(kind), crowd) // 2)
        if crowd < 2 or (level.settled and level.lanes <= fewer):
            return None
        level.lanes, level.settled = fewer, True
        return self._change(kind, f"out of memory among {crowd}")

    def _change(self, kind: Kind, reason: str) -> Change:
        level = self._levels[kind]
        return Change(kind, self.lanes(kind), level.settled, level.memory, reason)


def _size(memory: int) -> str:
    return f"{memory / 2**30:.2g} GiB"
