"""Who runs next: a pure state machine without processes, clocks or files.

Order: higher priority first, then the longest remaining chain (the stage that the most sequential work
hangs on), then the order of adding. A stage that failed lets some others go first and is tried again a
bounded number of times. A stage that ran out of memory among neighbours is tried again
among half as many, which costs it no attempt: only what fails alone counts against the stage.

A shared stage runs while any trial that is neither cancelled nor stopped needs it, and rests while all of
those are held.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from fractions import Fraction

from prunectl.scheduler.items import (
    CROWDED_REASONS,
    FINAL_REASONS,
    Dispatch,
    Item,
    Place,
    State,
    measure_chains,
)

LATER = 3
"""Dispatches that go before a failed stage is tried again, or one for each slot if those are more: so three
different stages have shown that a study is hopeless before the first has used up its attempts."""

LOOK = 32
"""Stages that are passed over, because they fit nowhere yet, in one decision."""

Entry = tuple[tuple[int, float, int], int, str]


class Queue:
    """All stages of a run, their states, and the decision who runs next."""

    def __init__(self, retries: int = 2) -> None:
        self.retries = retries
        self.items: dict[str, Item] = {}
        self.places: dict[str, Place] = {}
        self.cancelled: set[str] = set()
        self.held: set[str] = set()
        self.stopped: dict[str, str] = {}
        """Trials that an early stop took out, and why."""
        self.priority: dict[str, int] = {}
        self.dispatches = 0
        self._children: dict[str, list[str]] = {}
        self._keys: dict[str, set[str]] = {}
        self._heap: list[Entry] = []
        self._later: list[str] = []
        self._postponed: set[str] = set()
        self._stale = True
        self._counts: dict[str, int] | None = None

    # what there is

    def add(
        self,
        key: str,
        needs: Iterable[str],
        trials: Iterable[str],
        cost: float,
        done: bool = False,
        kind: Hashable = None,
    ) -> None:
        """Add a stage, or more trials and needs to one that is there. What it needs is added before it."""
        item = self.items.get(key)
        if item is None:
            item = Item(key, set(), set(), cost, len(self.items), kind)
            self.items[key] = item
            if done:
                item.state = State.DONE
        for needed in needs:
            other = self.items.get(needed)
            if other is not None and other.state is not State.DONE and needed not in item.needs:
                item.needs.add(needed)
                self._children.setdefault(needed, []).append(key)
        for trial in trials:
            item.trials.add(trial)
            self._keys.setdefault(trial, set()).add(key)
        self._stale = True

    def set_costs(self, costs: Mapping[str, float]) -> None:
        """Replace what stages cost, in any one unit; the order follows."""
        for key, cost in costs.items():
            self.items[key].cost = cost
        self._stale = True

    def add_device(
        self, device: str, slots: int, lanes: Callable[[Hashable], int] | None = None
    ) -> None:
        """A device with room for `slots` stages at a time; with `lanes` for fewer, by their kinds."""
        self.places[device] = Place(slots, lanes=lanes)

    def width(self, device: str) -> int:
        """How many stages the device has room for, of the kinds that run there; of the next one's if none
        does, and of a kind nobody has measured if none waits."""
        place = self.places[device]
        if place.lanes is None:
            return place.slots
        keys = place.running or self.upcoming(1)
        kinds = {self.items[key].kind for key in keys} or {None}
        return max(map(place.lanes, kinds))

    def open_device(self, device: str, opened: bool = True) -> None:
        """Whether a device takes new stages; what runs there runs on."""
        self.places[device].open = opened

    # decisions

    def next(self) -> Dispatch | None:
        """Take the stage that is to run now, if there are a stage and a slot for it."""
        if self._stale:
            self._rebuild()
        choice = self._take()
        if choice is None and self._later and self._room():
            self._wake(everyone=True)
            choice = self._take()
        return choice

    def _take(self) -> Dispatch | None:
        self._wake()
        room = self._room()
        if not room:
            return None
        for name in room:
            reserved = self.places[name].reserved
            if reserved is not None and self._fits(self.items[reserved], name):
                return self._start(self.items[reserved], name)
        aside: list[Entry] = []
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
            aside.append(entry)
            if len(aside) >= LOOK or all(self.places[name].reserved for name in self._room()):
                break
        for entry in aside:
            heapq.heappush(self._heap, entry)
        return choice

    def _start(self, item: Item, device: str) -> Dispatch:
        self._move(item, State.RUNNING)
        item.device = device
        item.version += 1
        self.places[device].running.add(item.key)
        for place in self.places.values():
            if place.reserved == item.key:
                place.reserved = None
        self.dispatches += 1
        return Dispatch(item.key, device, item.attempts + 1)

    def _room(self) -> list[str]:
        """Devices that could take a stage now, the emptiest first."""
        free = []
        for name, place in self.places.items():
            if place.reserved is not None and not self._eligible(self.items[place.reserved]):
                place.reserved = None
            limits = (self.items[key].crowd or place.slots for key in place.running)
            if place.open and len(place.running) < min((place.slots, *limits)):
                free.append(name)
        taken = {name: self._taken(name) for name in free}
        return sorted((name for name in free if taken[name] < 1), key=taken.__getitem__)

    def _taken(self, device: str) -> Fraction:
        place = self.places[device]
        if place.lanes is None:
            return Fraction(len(place.running), place.slots)
        return sum((place.share(self.items[key].kind) for key in place.running), Fraction())

    def _device_for(self, item: Item) -> str | None:
        free = [name for name in self._room() if self.places[name].reserved is None]
        for name in free:
            if self._fits(item, name):
                return name
        # Others would fill every slot that comes free, for ever: so one device is left to empty.
        if free and not any(place.reserved == item.key for place in self.places.values()):
            self.places[free[0]].reserved = item.key
        return None

    def _fits(self, item: Item, device: str) -> bool:
        place = self.places[device]
        if item.crowd is not None and len(place.running) >= item.crowd:
            return False
        return place.lanes is None or self._taken(device) + place.share(item.kind) <= 1

    def _wake(self, everyone: bool = False) -> None:
        still = []
        for key in self._later:
            item = self.items[key]
            if everyone or item.earliest <= self.dispatches:
                item.earliest = 0
                self._push(item)
            else:
                still.append(key)
        self._later = still

    # what happened

    def finish(self, key: str) -> list[str]:
        """The stage is done; stages that need nothing more now."""
        item = self._leave(key, State.DONE)
        item.reason = ""
        ready = []
        for child in self._children.get(key, ()):
            other = self.items[child]
            other.needs.discard(key)
            if not other.needs:
                self._push(other)
                ready.append(child)
        return ready

    def reopen(self, key: str, children: Iterable[str]) -> None:
        """A stage that was done has lost what its children start from: it is to be done again, before them."""
        self.items[key].state = State.WAITING
        self._counts = None
        self._stale = True
        for child in children:
            other = self.items.get(child)
            if other is not None and other.state is not State.DONE and key not in other.needs:
                other.needs.add(key)
                below = self._children.setdefault(key, [])
                if child not in below:
                    below.append(child)

    def interrupted(self, key: str) -> None:
        """The stage left its slot before its end, by no fault of its own."""
        self._push(self._leave(key, State.WAITING))

    def fail(self, key: str, reason: str, message: str = "", crowd: int = 1) -> bool:
        """The stage failed while `crowd` stages ran beside it (itself included); whether it will be tried
        again."""
        item = self._leave(key, State.WAITING)
        item.reason = f"{reason}: {message}" if message else reason
        if reason in CROWDED_REASONS and crowd > 1:
            item.crowd = max(1, crowd // 2)
        else:
            item.attempts += 1
        if reason in FINAL_REASONS or item.attempts > self.retries:
            item.state = State.FAILED
            self._block(item)
            return False
        slots = sum(place.slots for place in self.places.values())
        item.earliest = self.dispatches + max(LATER, slots)
        self._later.append(key)
        return True

    def postpone(self, key: str) -> None:
        """Not now: the stage could not be started and stays out of the way until `resume_postponed`."""
        item = self._leave(key, State.WAITING)
        item.postponed = True
        self._postponed.add(key)
        self.dispatches -= 1

    def resume_postponed(self) -> None:
        """Let postponed stages be chosen again."""
        for key in sorted(self._postponed):
            self.items[key].postponed = False
            self._push(self.items[key])
        self._postponed.clear()

    def _leave(self, key: str, state: State) -> Item:
        item = self.items[key]
        if item.device is not None:
            self.places[item.device].running.discard(key)
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

    def _block(self, failed: Item) -> None:
        self._counts = None
        stack = list(self._children.get(failed.key, ()))
        while stack:
            item = self.items[stack.pop()]
            if item.blocked_by is None and item.state is State.WAITING:
                item.blocked_by = failed.key
                stack += self._children.get(item.key, ())

    # what people ask for

    def cancel(self, trials: Iterable[str]) -> None:
        """Take trials out until `retry`."""
        self.cancelled.update(trials)
        self._stale = True

    def hold(self, trials: Iterable[str]) -> None:
        """Let trials rest until `release`."""
        self.held.update(trials)
        self._stale = True

    def release(self, trials: Iterable[str]) -> None:
        """End a hold."""
        self.held.difference_update(trials)
        self._stale = True

    def prioritise(self, values: Mapping[str, int]) -> None:
        """Set priorities of trials; 0 is usual, higher runs first."""
        self.priority.update(values)
        self._stale = True

    def stop_trials(self, trials: Iterable[str], reason: str) -> None:
        """Take trials out because their study is stopped early."""
        self.stopped.update(dict.fromkeys(trials, reason))
        self._stale = True

    def retry(self, trials: Iterable[str]) -> list[str]:
        """Give cancelled, stopped and failed trials a fresh start; keys whose failures are forgotten."""
        trials = list(trials)
        self.cancelled.difference_update(trials)
        return self.forgive(trials)

    def forgive(self, trials: Iterable[str]) -> list[str]:
        """Give stopped and failed trials a fresh start, but not cancelled ones; keys whose failures are
        forgotten."""
        trials = list(trials)
        for trial in trials:
            self.stopped.pop(trial, None)
        keys = sorted(set().union(*(self._keys.get(trial, set()) for trial in trials)))
        failed = [key for key in keys if self.items[key].state is State.FAILED]
        for key in failed:
            item = self.items[key]
            item.state, item.attempts, item.crowd, item.reason = State.WAITING, 0, None, ""
        for item in self.items.values():
            item.blocked_by = None
        for item in self.items.values():
            if item.state is State.FAILED:
                self._block(item)
        self._stale = True
        return failed

    def to_recall(self) -> list[str]:
        """Running stages that no trial wants to run any more."""
        running = (key for place in self.places.values() for key in place.running)
        return [key for key in running if not self._wanted(self.items[key])]

    # states

    def state(self, key: str) -> State:
        """The stage's state."""
        item = self.items[key]
        if item.state is not State.WAITING:
            return item.state
        if not any(self._live(trial) for trial in item.trials):
            return State.BLOCKED if self._stopped(item) else State.CANCELLED
        if item.blocked_by is not None:
            return State.BLOCKED
        return State.WAITING if self._wanted(item) else State.HELD

    def reason(self, key: str) -> str:
        """Why the stage is not running, in words; "" where it is, where it is done, and where it only waits
        for a slot."""
        item = self.items[key]
        match self.state(key):
            case State.FAILED:
                return item.reason
            case State.CANCELLED:
                return "cancelled"
            case State.HELD:
                return "held"
            case State.BLOCKED:
                if item.blocked_by is not None:
                    return f"needs {item.blocked_by[:12]}, which failed ({self.items[item.blocked_by].reason})"
                return self._stopped(item)
            case State.WAITING if item.needs:
                return "waits for " + ", ".join(sorted(key[:12] for key in item.needs))
            case State.WAITING if item.attempts or item.crowd:
                return f"to be tried again ({item.reason})"
        return ""

    def trial_state(self, trial: str) -> State:
        """The trial's state, from those of its stages."""
        states = {self.state(key) for key in self._keys.get(trial, ())}
        if states <= {State.DONE}:
            return State.DONE
        if trial in self.cancelled:
            return State.CANCELLED
        if State.FAILED in states:
            return State.FAILED
        if State.BLOCKED in states or trial in self.stopped:
            return State.BLOCKED
        if trial in self.held:
            return State.HELD
        return State.RUNNING if State.RUNNING in states else State.WAITING

    def counts(self) -> dict[str, int]:
        """Stages in each state."""
        if self._counts is None or self._stale:
            counts = Counter(self.state(key) for key in self.items)
            self._counts = {state.value: counts[state] for state in State}
        return dict(self._counts)

    def trial_counts(self) -> dict[str, int]:
        """Trials in each state."""
        counts = Counter(self.trial_state(trial) for trial in self._keys)
        return {state.value: counts[state] for state in State}

    @property
    def running(self) -> dict[str, str]:
        """Device of each running stage."""
        return {key: name for name, place in self.places.items() for key in place.running}

    @property
    def exhausted(self) -> bool:
        """Nothing runs, and nothing can run however many slots come free."""
        if any(place.running for place in self.places.values()):
            return False
        return not any(self._ready(item) for item in self.items.values())

    def upcoming(self, count: int) -> list[str]:
        """The stages that could start now, in their order; at most `count`."""
        if self._stale:
            self._rebuild()
        fresh = (
            entry
            for entry in self._heap
            if entry[1] == self.items[entry[2]].version and self._eligible(self.items[entry[2]])
        )
        return list(dict.fromkeys(key for _, _, key in heapq.nsmallest(count, fresh)))

    def rank(self, key: str) -> tuple[int, float, int]:
        """Sorts stages: the smallest runs first."""
        item = self.items[key]
        wanted = (self.priority.get(trial, 0) for trial in item.trials if self._waits(trial))
        return -max(wanted, default=0), -item.chain, item.order

    def visit(self, found: Callable[[Item], None]) -> None:
        """Call `found` with each stage that will run if nothing fails; for simulations."""
        for item in self.items.values():
            if item.state is State.RUNNING or (
                item.state is State.WAITING and item.blocked_by is None and self._wanted(item)
            ):
                found(item)

    def _live(self, trial: str) -> bool:
        return trial not in self.cancelled and trial not in self.stopped

    def _waits(self, trial: str) -> bool:
        return self._live(trial) and trial not in self.held

    def _wanted(self, item: Item) -> bool:
        return any(self._waits(trial) for trial in item.trials)

    def _stopped(self, item: Item) -> str:
        return next((self.stopped[trial] for trial in item.trials if trial in self.stopped), "")

    def _ready(self, item: Item) -> bool:
        return (
            item.state is State.WAITING
            and not item.needs
            and item.blocked_by is None
            and self._wanted(item)
        )

    def _eligible(self, item: Item) -> bool:
        return not item.postponed and not item.earliest and self._ready(item)

    def _push(self, item: Item) -> None:
        if self._eligible(item):
            item.version += 1
            heapq.heappush(self._heap, (self.rank(item.key), item.version, item.key))

    def _rebuild(self) -> None:
        self._stale = False
        self._counts = None
        measure_chains(self.items, self._children, self._wanted)
        self._heap.clear()
        for item in self.items.values():
            self._push(item)
