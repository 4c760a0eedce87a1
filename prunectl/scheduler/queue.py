"""Who runs next: a pure state machine without processes, clocks or files.

Order: higher priority first, then the longest remaining chain (the stage that the most sequential work hangs on), then
the order of adding. A stage that failed lets some others go first and is tried again a bounded number of times. A stage
that ran out of memory beside others is tried again beside fewer, which costs it no attempt: only what fails alone
counts against the stage.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable

from prunectl.scheduler.items import Item, Workload, measure_chains
from prunectl.scheduler.queue_state import QueueState
from prunectl.scheduler.slots import DeviceSlots
from prunectl.spec.state import State
from prunectl.store import narration

RETRY_AFTER = 3
"""Dispatches that go before a failed stage is tried again, or one for each slot if those are more: so three
different stages have shown that a study is hopeless before the first has used up its attempts."""
MOST_SKIPPED = 32
"""Stages that are passed over, because they fit nowhere yet, in one decision: it takes the same time at any length of
the queue."""
FINAL_REASONS = frozenset({"nonfinite", "data"})
"""Failures that would only repeat themselves."""
SHARED_REASONS = frozenset({"oom", "lost", "hung"})
"""Failures that another stage on the device may have caused."""

Entry = tuple[tuple[int, float, int], int, str]
"""Of the heap: rank, version, key."""


class Queue(QueueState):
    """All stages of a run, their states, and the decision who runs next."""

    def __init__(self, retries: int = 2) -> None:
        super().__init__()
        self.retries = retries
        self.devices: dict[str, DeviceSlots] = {}
        self.dispatches = 0
        self._heap: list[Entry] = []
        self._set_aside: list[str] = []
        """Stages with an `earliest`."""

    # devices

    def add_device(
        self,
        device: str,
        slots: int,
        slots_for: Callable[[Workload | None], int] | None = None,
    ) -> None:
        """Add a device with `slots` slots; with `slots_for` fewer, by the workload."""
        self.devices[device] = DeviceSlots(slots, slots_for)

    def share_by(self, device: str, slots_for: Callable[[Workload | None], int]) -> None:
        """Let the number of slots of a device depend on the workload from now on."""
        self.devices[device].slots_for = slots_for

    def open_device(self, device: str, opened: bool = True) -> None:
        """Set whether a device takes new stages; what runs there runs on."""
        self.devices[device].open = opened

    def slots(self, device: str) -> int:
        """Return the slots of a device for what runs there; if nothing does, for what starts next, or for a workload
        that was never measured."""
        slots = self.devices[device]
        if slots.slots_for is None:
            return slots.most
        keys = slots.running or self.upcoming(1)
        workloads = {self.items[key].workload for key in keys} or {None}
        return max(map(slots.slots_for, workloads))

    # decisions

    def next(self) -> Item | None:
        """Take the stage that is to run now, on the device it names; None where a stage or a slot lacks."""
        if self._stale:
            self._rebuild()
        choice = self._take()
        if choice is None and self._set_aside and self._with_room():
            self._resume(lambda item: item.earliest < math.inf)
            choice = self._take()
        return choice

    def _take(self) -> Item | None:
        self._resume(lambda item: item.earliest <= self.dispatches)
        free = self._with_room()
        if not free:
            return None
        for name in free:
            reserved = self.devices[name].reserved
            if reserved is not None and self.devices[name].fits(self.items[reserved]):
                return self._start(self.items[reserved], name)
        skipped: list[Entry] = []
        choice = None
        while self._heap and choice is None:
            entry = heapq.heappop(self._heap)
            item = self.items[entry[2]]
            if entry[1] != item.version or not self._eligible(item):
                continue
            device = self._device_for(item)
            if device is not None:
                choice = self._start(item, device)
                continue
            skipped.append(entry)
            if len(skipped) >= MOST_SKIPPED or not self._unreserved():
                break
        for entry in skipped:
            heapq.heappush(self._heap, entry)
        return choice

    def _start(self, item: Item, device: str) -> Item:
        self._move(item, State.RUNNING)
        item.device = device
        item.version += 1  # entries that are left in the heap would start it again
        self.devices[device].running[item.key] = item
        for slots in self.devices.values():
            if slots.reserved == item.key:
                slots.reserved = None
        self.dispatches += 1
        return item

    def _with_room(self) -> list[str]:
        """Return the devices that could take a stage now, the emptiest first."""
        for slots in self.devices.values():
            if slots.reserved is not None and not self._eligible(self.items[slots.reserved]):
                slots.reserved = None
        free = (name for name, slots in self.devices.items() if slots.has_room)
        return sorted(free, key=lambda name: self.devices[name].used)

    def _unreserved(self) -> list[str]:
        return [name for name in self._with_room() if self.devices[name].reserved is None]

    def _device_for(self, item: Item) -> str | None:
        free = self._unreserved()
        for name in free:
            if self.devices[name].fits(item):
                return name
        # Others would fill every slot that comes free, for ever: so one device is left to empty.
        if free and not any(slots.reserved == item.key for slots in self.devices.values()):
            self.devices[free[0]].reserved = item.key
        return None

    # what happened

    def finish(self, key: str) -> None:
        """The stage is done: what needs nothing else can start."""
        item = self._leave(key, State.DONE)
        item.reason = ""
        if item.needs:  # a replay that was inserted while it ran is worth less now
            self._stale = True
        for child in self._children.get(key, ()):
            other = self.items[child]
            other.needs.discard(key)
            self._push(other)

    def reopen(self, key: str, children: Iterable[str]) -> None:
        """A stage that was done has lost what its children start from: it is to be done again, before them."""
        self.items[key].state = State.WAITING
        self._changed()
        for child in children:
            other = self.items.get(child)
            if other is not None and other.state is not State.DONE and key not in other.needs:
                other.needs.add(key)
                below = self._children.setdefault(key, [])
                if child not in below:
                    below.append(child)

    def interrupted(self, key: str, *, later: bool = False) -> None:
        """The stage left its slot before its end, by no fault of its own; `later` lets some others go first."""
        item = self._leave(key, State.WAITING)
        if later:
            self._let_others_go_first(item)
        else:
            self._push(item)

    def fail(
        self,
        key: str,
        reason: str,
        message: str = "",
        sharing: int = 1,
        *,
        final: bool = False,
        learnt: bool = False,
    ) -> bool:
        """The stage failed while `sharing` stages were on its device, itself included; `final` is not tried again.

        `learnt`: its workload has fewer slots there from now on, so that this failure does not repeat itself. Returns
        whether it will be tried again.
        """
        item = self._leave(key, State.WAITING)
        item.reason = narration.failure(reason, message)
        if learnt:
            pass  # no fault of its own, and no more reason to leave it room than any other of its workload
        elif reason in SHARED_REASONS and sharing > 1:
            # Halved each time: of 8 stages, one that needs the whole device has it at the fourth try.
            item.slot_limit = max(1, sharing // 2)
        else:
            item.failures += 1
        if final or reason in FINAL_REASONS or item.failures > self.retries:
            item.state = State.FAILED
            self._block(item)
            return False
        self._let_others_go_first(item)
        return True

    def _let_others_go_first(self, item: Item) -> None:
        total = sum(slots.most for slots in self.devices.values())
        self._set_aside_until(item, self.dispatches + max(RETRY_AFTER, total))

    def postpone(self, key: str) -> None:
        """The stage could not be started now: it stays out of the way until `resume_postponed`."""
        self._set_aside_until(self._leave(key, State.WAITING), math.inf)
        self.dispatches -= 1  # it did not run: failed stages must not come back the sooner for it

    def resume_postponed(self) -> None:
        """Let postponed stages be chosen again."""
        self._resume(lambda item: item.earliest == math.inf)

    def _set_aside_until(self, item: Item, earliest: float) -> None:
        item.earliest = earliest
        self._set_aside.append(item.key)

    def _resume(self, due: Callable[[Item], bool]) -> None:
        keys, self._set_aside = self._set_aside, []
        for key in keys:
            item = self.items[key]
            if due(item):
                item.earliest = 0
                self._push(item)
            else:
                self._set_aside.append(key)

    def _leave(self, key: str, state: State) -> Item:
        item = self.items[key]
        if item.device is not None:
            self.devices[item.device].running.pop(key, None)
        item.device = None
        self._move(item, state)
        return item

    def _move(self, item: Item, state: State) -> None:
        """Change the state of one stage, which changes no other's: counting thousands anew takes too long."""
        if self._counts is not None:
            self._counts[self.state(item.key)] -= 1
        item.state = state
        if self._counts is not None:
            self._counts[self.state(item.key)] += 1

    # what is to come

    def to_recall(self) -> list[str]:
        """Return running stages that no trial wants to run any more."""
        return [key for key in self.running if not self._wanted(self.items[key])]

    @property
    def running(self) -> dict[str, str]:
        """Return the device of each running stage."""
        return {key: name for name, slots in self.devices.items() for key in slots.running}

    @property
    def exhausted(self) -> bool:
        """Return whether nothing runs, and nothing can run however many slots come free."""
        return not self.running and not any(map(self._ready, self.items.values()))

    def upcoming(self, count: int) -> list[str]:
        """Return the stages that could start now, in their order; at most `count`."""
        if self._stale:
            self._rebuild()
        fresh = (
            entry
            for entry in self._heap
            if entry[1] == self.items[entry[2]].version and self._eligible(self.items[entry[2]])
        )
        return list(dict.fromkeys(key for _, _, key in heapq.nsmallest(count, fresh)))

    def _eligible(self, item: Item) -> bool:
        return not item.earliest and self._ready(item)

    def _push(self, item: Item) -> None:
        if self._eligible(item):
            item.version += 1
            heapq.heappush(self._heap, (self.rank(item.key), item.version, item.key))

    def _rebuild(self) -> None:
        self._stale = False
        measure_chains(self.items, self._children, self._wanted)
        self._heap.clear()
        for item in self.items.values():
            self._push(item)
