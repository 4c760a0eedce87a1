"""How many stages share a device: a fixed number of slots, or `auto`, found by measuring. Pure: no clocks, no files.

A stage takes a share of its device: a whole n-th where the device has n slots for its workload. The shares of what
runs there add up to at most the whole device, and so does their memory, because n is never more than fit.

fixed      n is the same for every workload, until a stage runs out of memory among others: from then on one fewer of
           its workload share the device, for the rest of the run.
auto CUDA  A workload that was never measured has the device to itself. From then on n is doubled, while the device
           does at least 5 % more steps a second with twice as many and has memory for them; then it is settled, and
           falls only where memory ran out after all. So it never oscillates, and what gains nothing shares nothing.
auto CPU   One slot per core, but no more than there is memory for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.items import Item, Workload
from prunectl.store.records.scheduler_log import SlotsSet

MIN_GAIN = 1.05
"""Twice as many slots have to be worth this much in steps a second."""
USABLE_MEMORY = 0.9
"""Of the memory that was free at first: the rest is for CUDA's context, fragments and what stages need only briefly."""


@dataclass(slots=True)
class DeviceSlots:
    """The slots of one device, and the stages that take them."""

    most: int
    """Slots there are, for workloads that share best."""
    slots_for: Callable[[Workload | None], int] | None = None
    """Slots for a workload that has the device to itself; None where they are `most` for each."""
    open: bool = True
    """Takes new stages."""
    running: dict[str, Item] = field(default_factory=dict)
    reserved: str | None = None
    """A stage that waits for the device to empty."""

    @property
    def used(self) -> Fraction:
        """Return the part of the device that is taken."""
        # Fractions, since three floats of 1/3 need not fill a device.
        if self.slots_for is None:
            return Fraction(len(self.running), self.most)
        shares = (Fraction(1, self.slots_for(item.workload)) for item in self.running.values())
        return sum(shares, Fraction())

    @property
    def has_room(self) -> bool:
        """Return whether some stage might fit; one that ran out of memory before bears only so many beside it."""
        limits = (item.slot_limit or self.most for item in self.running.values())
        return self.open and len(self.running) < min([self.most, *limits]) and self.used < 1

    def fits(self, item: Item) -> bool:
        """Return whether a device that has room has room for this stage."""
        if item.slot_limit is not None and len(self.running) >= item.slot_limit:
            return False
        if self.slots_for is None:
            return True
        return self.used + Fraction(1, self.slots_for(item.workload)) <= 1


@dataclass(frozen=True)
class SlotChange:
    """Another number of slots for a workload on a device."""

    workload: Workload
    slots: int
    settled: bool
    """No more will be tried."""
    memory: int | None
    """Bytes per stage."""
    reason: str

    def to_record(self, device: Device) -> SlotsSet:
        """Return the record of the scheduler's log, of this device."""
        return SlotsSet(
            device=device.id,
            device_name=device.name,
            by=device.slots_by,
            of=self.workload,
            lanes=self.slots,
            settled=self.settled,
            memory=self.memory,
            reason=self.reason,
        )


def recorded_changes(records: Iterable[SlotsSet], device: Device) -> list[SlotChange]:
    """Return what the scheduler's log says of devices like this one: of its model, with such slots."""
    return [
        SlotChange(record.of, record.lanes, record.settled, record.memory, record.reason)
        for record in records
        if (record.device_name, record.by) == (device.name, device.slots_by)
    ]


@dataclass
class _Measured:
    """What is known of a workload."""

    slots: int
    settled: bool
    memory: int | None = None
    """Bytes per stage."""
    sharing: int = 0
    """Stages that shared the process when `memory` was measured: the more, the less what they have in common weighs."""
    seconds: dict[int, float] = field(default_factory=dict)
    """Time measured, by the number of stages side by side; so are `steps`."""
    steps: dict[int, int] = field(default_factory=dict)


class FixedSlots:
    """The slots of one device where the user says how many: so many, or what memory turned out to have room for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._fewer: dict[Workload | None, int] = {}

    def slots_for(self, workload: Workload | None) -> int:
        """Return how many stages of the workload may run at a time, if nothing else does; at least 1."""
        return self._fewer.get(workload, self._most)

    def record_overflow(self, workload: Workload, own: int, total: int) -> SlotChange | None:
        """Learn that a stage ran out of memory among `total`, itself included: all the others had room.

        Not settled: the next run begins with what its user says, for memory that others took may be free again.
        """
        fewer = max(1, min(self.slots_for(workload), total) - 1)
        if total < 2 or fewer == self.slots_for(workload):
            return None
        self._fewer[workload] = fewer
        return SlotChange(workload, fewer, False, None, f"out of memory among {total}")


class AutoSlots:
    """The slots of one device where the user says `auto`."""

    def __init__(
        self, most: int, by_speed: bool, min_seconds: float = 20.0, min_steps: int = 1000
    ) -> None:
        """Start without any measurement.

        Args:
            most: upper bound of the slots.
            by_speed: whether they are found by measuring speed (CUDA), not by memory alone (CPU).
            min_seconds: training side by side after which its speed counts as measured, if also
            min_steps: so many steps were done: workers report steps 16 at a time, which must not decide about 5 %.
        """
        self.by_speed = by_speed
        self.memory: int | None = None
        """Bytes that stages may take together; None where the system does not report it."""
        self.started = False
        self._most = most
        self._min_seconds, self._min_steps = min_seconds, min_steps
        self._measured: dict[Workload | None, _Measured] = {}
        self._last: tuple[float, dict[str, int]] | None = None

    def start(self, free: int | None, known: Iterable[SlotChange] = ()) -> None:
        """Begin anew on a device of which other processes leave `free` bytes, with what earlier runs settled."""
        self.started = True
        self.memory = None if free is None else int(USABLE_MEMORY * max(0, free))
        self._last = None
        self._measured = {
            change.workload: _Measured(min(change.slots, self._most), change.settled, change.memory)
            for change in known
        }

    @property
    def _unmeasured(self) -> int:
        return 1 if self.by_speed else self._most

    def slots_for(self, workload: Workload | None) -> int:
        """Return how many stages of the workload may run at a time, if nothing else does; at least 1."""
        known = self._measured.get(workload)
        return self._unmeasured if known is None else max(1, min(known.slots, self._fit(known)))

    def _fit(self, known: _Measured) -> int:
        if self.memory is None or not known.memory:
            return self._most
        return self.memory // known.memory

    def _of(self, workload: Workload) -> _Measured:
        return self._measured.setdefault(
            workload, _Measured(self._unmeasured, settled=not self.by_speed)
        )

    def memory_known(self, workload: Workload) -> bool:
        """Return whether the memory that a stage of the workload takes was measured."""
        return workload in self._measured and self._measured[workload].memory is not None

    def record_memory(self, workload: Workload, memory: int, sharing: int) -> SlotChange | None:
        """Learn that a process in which `sharing` stages of the workload ran has used so many bytes."""
        known, before = self._of(workload), self.slots_for(workload)
        each = -(-memory // sharing)  # rounded up: n of them must fit
        if (sharing, each) > (known.sharing, known.memory or 0):
            known.memory, known.sharing = each, sharing
        if self.slots_for(workload) == before:
            return None
        return self._change(
            workload, f"{_size(each)} each of the {_size(self.memory or 0)} there are"
        )

    def record_steps(
        self, now: float, steps: Mapping[str, int], workload: Workload | None
    ) -> SlotChange | None:
        """Learn the steps done at `now` (seconds) by each stage on the device.

        `workload` is None where they are of several, or where some have not begun: nothing is learnt from that.
        """
        last, self._last = self._last, None
        if workload is None or not steps or not self.by_speed:
            return None
        self._last = now, dict(steps)
        # A stage that came or went since changes how many share the device: the interval is of no one number.
        if last is None or last[1].keys() != steps.keys():
            return None
        known, count = self._of(workload), len(steps)
        known.seconds[count] = known.seconds.get(count, 0.0) + now - last[0]
        known.steps[count] = known.steps.get(count, 0) + sum(steps.values()) - sum(last[1].values())
        return None if known.settled else self._decide(workload, known)

    def _speed(self, known: _Measured, slots: int) -> float | None:
        """Return the steps a second of all stages together; None until measured long enough."""
        seconds, steps = known.seconds.get(slots, 0.0), known.steps.get(slots, 0)
        enough = seconds >= self._min_seconds and steps >= self._min_steps
        return steps / seconds if enough else None

    def _decide(self, workload: Workload, known: _Measured) -> SlotChange | None:
        """Double the slots, or go back to half of them, once it is known what the present number is worth."""
        slots = known.slots
        speed = self._speed(known, slots)
        # Doubling before the memory of one is known could end in stages that run out of it.
        if speed is None or (self.memory is not None and known.memory is None):
            return None
        half = self._speed(known, slots // 2)
        if half is None:
            gain = f"{speed:.3g} steps/s"
        else:
            gain = f"{speed / half:.2f}× the steps/s of {slots // 2}"
            if speed < MIN_GAIN * half:
                known.slots, known.settled = slots // 2, True
                return self._change(workload, f"{slots} do {gain}")
        if 2 * slots > min(self._most, self._fit(known)):
            known.settled = True
            why = "no more are tried" if 2 * slots > self._most else f"no memory for {2 * slots}"
            return self._change(workload, f"{slots} do {gain}, {why}")
        known.slots = 2 * slots
        return self._change(workload, f"{slots} do {gain}: twice as many are tried")

    def record_overflow(self, workload: Workload, own: int, total: int) -> SlotChange | None:
        """Learn that a stage ran out of memory among `own` stages of its workload and `total` of all, itself included.

        Several that fail together are one reason to have fewer, not one each.
        """
        known = self._of(workload)
        if own > known.slots:  # begun when there were more: the number has been halved since
            return None
        fewer = max(1, min(self.slots_for(workload), total) // 2)
        if total < 2 or (known.settled and known.slots <= fewer):
            return None
        known.slots, known.settled = fewer, True
        return self._change(workload, f"out of memory among {total}")

    def _change(self, workload: Workload, reason: str) -> SlotChange:
        known = self._measured[workload]
        return SlotChange(workload, self.slots_for(workload), known.settled, known.memory, reason)


def _size(memory: int) -> str:
    return f"{memory / 2**30:.2g} GiB"
