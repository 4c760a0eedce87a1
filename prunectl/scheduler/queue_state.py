"""The stages and trials of a run, what people ask of them, and the states that follow. Pure, and without decisions.

The rules are those of `spec.state`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prunectl.scheduler.items import Item, Workload
from prunectl.spec.state import State, asked_of, resting_state, trial_state


class QueueState:
    """Stages by key, the trials that need them, and which of those are cancelled, held or stopped."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.cancelled: set[str] = set()
        self.held: set[str] = set()
        self.stopped: dict[str, str] = {}
        """Trials that an early stop took out, and why."""
        self.priority: dict[str, int] = {}
        self._keys: dict[str, set[str]] = {}
        """Stages of each trial."""
        self._children: dict[str, list[str]] = {}
        """Stages that need each stage."""
        self._counts: dict[str, int] | None = None
        self._stale = True
        """Chains and ranks do not follow yet from the present costs, needs and trials."""

    # what there is

    def add(
        self,
        key: str,
        needs: Iterable[str],
        trials: Iterable[str],
        cost: float,
        done: bool = False,
        workload: Workload | None = None,
        replay: bool = False,
    ) -> None:
        """Add a stage, or more trials and needs to one that is there. What it needs is added before it."""
        item = self.items.get(key)
        if item is None:
            item = Item(key, set(), set(), cost, len(self.items), workload, replay)
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
        self._changed()

    def set_costs(self, costs: Mapping[str, float]) -> None:
        """Replace what stages cost, in any one unit; the order follows."""
        for key, cost in costs.items():
            self.items[key].cost = cost
        self._changed()

    # what people ask for

    def cancel(self, trials: Iterable[str]) -> None:
        """Take trials out until `retry`."""
        self.cancelled.update(trials)
        self._changed()

    def hold(self, trials: Iterable[str]) -> None:
        """Let trials rest until `release`."""
        self.held.update(trials)
        self._changed()

    def release(self, trials: Iterable[str]) -> None:
        """End a hold."""
        self.held.difference_update(trials)
        self._changed()

    def prioritise(self, values: Mapping[str, int]) -> None:
        """Set priorities of trials; 0 is usual, higher runs first."""
        self.priority.update(values)
        self._changed()

    def stop_trials(self, trials: Iterable[str], reason: str) -> None:
        """Take trials out because their study is stopped early."""
        self.stopped.update(dict.fromkeys(trials, reason))
        self._changed()

    def retry(self, trials: Iterable[str]) -> list[str]:
        """Give cancelled, stopped and failed trials a fresh start. Returns the keys whose failures are forgotten."""
        trials = list(trials)
        self.cancelled.difference_update(trials)
        return self.forgive(trials)

    def forgive(self, trials: Iterable[str]) -> list[str]:
        """The same for stopped and failed trials, but not for cancelled ones."""
        keys: set[str] = set()
        for trial in trials:
            self.stopped.pop(trial, None)
            keys |= self._keys.get(trial, set())
        failed = sorted(key for key in keys if self.items[key].state is State.FAILED)
        for key in failed:
            item = self.items[key]
            item.state, item.failures, item.slot_limit, item.reason = State.WAITING, 0, None, ""
        # A stage may depend on two that failed: what still blocks it is worked out anew.
        for item in self.items.values():
            item.blocked_by = None
        for item in self.items.values():
            if item.state is State.FAILED:
                self._block(item)
        self._changed()
        return failed

    # states

    def state(self, key: str) -> State:
        """Return the stage's state."""
        item = self.items[key]
        if item.state is not State.WAITING:
            return item.state
        return resting_state(map(self._asked_of, item.trials), blocked=item.blocked_by is not None)

    def reason(self, key: str) -> str:
        """Return why the stage is not running; "" where it is, where it is done, and where only a slot lacks."""
        item = self.items[key]
        match self.state(key):
            case State.FAILED:
                return item.reason
            case State.CANCELLED | State.HELD as state:
                return state.value
            case State.BLOCKED:
                if item.blocked_by is not None:
                    return f"needs {item.blocked_by[:12]}, which failed ({self.items[item.blocked_by].reason})"
                return self._stop_reason(item)
            case State.WAITING if item.needs:
                return "waits for " + ", ".join(sorted(key[:12] for key in item.needs))
            case State.WAITING if item.failures or item.slot_limit:
                return f"to be tried again ({item.reason})"
        return ""

    def trial_state(self, trial: str) -> State:
        """Return the trial's state."""
        path = {_own_state(self.items[key]) for key in self._keys.get(trial, ())}
        return trial_state(path, self._asked_of(trial))

    def counts(self) -> dict[str, int]:
        """Count the stages in each state."""
        if self._counts is None:
            counts = Counter(self.state(key) for key in self.items)
            self._counts = {state.value: counts[state] for state in State}
        return dict(self._counts)

    def trial_counts(self) -> dict[str, int]:
        """Count the trials in each state."""
        counts = Counter(self.trial_state(trial) for trial in self._keys)
        return {state.value: counts[state] for state in State}

    def rank(self, key: str) -> tuple[int, float, int]:
        """Return what sorts stages: priority, then the longest chain, then the order of adding; the smallest runs
        first."""
        item = self.items[key]
        wanted = (self.priority.get(trial, 0) for trial in item.trials if self._waits(trial))
        return -max(wanted, default=0), -item.chain, item.order

    def unfinished(self) -> Iterator[Item]:
        """Yield the stages that run, or will run if nothing fails."""
        for item in self.items.values():
            waiting = item.state is State.WAITING and item.blocked_by is None
            if item.state is State.RUNNING or (waiting and self._wanted(item)):
                yield item

    def _asked_of(self, trial: str) -> State:
        return asked_of(
            cancelled=trial in self.cancelled,
            stopped=trial in self.stopped,
            held=trial in self.held,
        )

    def _waits(self, trial: str) -> bool:
        # `_asked_of(trial) is State.WAITING`, asked so often that the calls would double the time of a decision.
        return trial not in self.cancelled and trial not in self.stopped and trial not in self.held

    def _wanted(self, item: Item) -> bool:
        return any(self._waits(trial) for trial in item.trials)

    def _stop_reason(self, item: Item) -> str:
        return next((self.stopped[trial] for trial in item.trials if trial in self.stopped), "")

    def _ready(self, item: Item) -> bool:
        return (
            item.state is State.WAITING
            and not item.needs
            and item.blocked_by is None
            and self._wanted(item)
        )

    def _block(self, failed: Item) -> None:
        self._counts = None
        stack = list(self._children.get(failed.key, ()))
        while stack:
            item = self.items[stack.pop()]
            if item.blocked_by is None and item.state is State.WAITING:
                item.blocked_by = failed.key
                stack += self._children.get(item.key, ())

    def _changed(self) -> None:
        self._stale = True
        self._counts = None


def _own_state(item: Item) -> State:
    """Return the stage's state as a trial counts it: without what is asked of others, and not running as a replay."""
    if item.state is State.WAITING and item.blocked_by is not None:
        return State.BLOCKED
    return State.WAITING if item.replay and item.state is State.RUNNING else item.state
