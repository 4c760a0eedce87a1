"""How some plans stand, whichever scheduler runs them: what the command that asked for them tells, and ends with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from prunectl.monitor.snapshot import TrialView
from prunectl.monitor.state import Change, StoreState
from prunectl.monitor.trials import TrialViews
from prunectl.spec.state import State
from prunectl.spec.study import Study
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.requests import AddPlan, TrialRequest
from prunectl.store.records.scheduler_log import Answered, StageFailed, StudyStopped

UNFINISHED = (State.WAITING, State.RUNNING, State.INTERRUPTED)
"""States of trials that a scheduler would go on with."""


class PlanStatus:
    """The trials of the plans, from the files of their store; `update` reads them."""

    def __init__(self, paths: StorePaths, plans: Sequence[Study]) -> None:
        self.store = StoreState(paths, plans=plans)
        self.trials: Sequence[TrialView] = ()
        self._views = TrialViews(self.store)
        self.update()

    def update(self) -> Change:
        """Read what is new. Returns what changed."""
        change = self.store.update(time.time())
        if change:
            self.trials = self._views.update(change)
        return change

    @property
    def done(self) -> set[str]:
        """Return the stages of the plans that are done."""
        states, own = self.store.states, self.store.trials_of.keys()
        return {key for key, state in states.items() if state is State.DONE and key in own}

    def needs(self, key: str) -> bool:
        """Return whether the plans have the stage, or it is a replay that one of theirs starts from."""
        return bool(self.store.trials_for(key))

    def concerns(self, record: LogRecord) -> bool:
        """Return whether a record of the scheduler's log is about the plans, or about all that runs."""
        match record:
            case Answered(request=AddPlan(plan=digest)) | StudyStopped(plan=digest):
                return any(plan.digest == digest for plan in self.store.studies)
            case Answered(request=TrialRequest(trials=trials)):
                return not set(trials).isdisjoint(view.trial.id for view in self.trials)
        key = getattr(record, "key", None)
        return key is None or self.needs(key)

    @property
    def counts(self) -> dict[State, int]:
        """Count the trials in each state."""
        found = Counter(view.state for view in self.trials)
        return {state: found[state] for state in State}

    @property
    def unfinished(self) -> bool:
        """Return whether some trial is neither done nor given up, nor held."""
        return any(view.state in UNFINISHED for view in self.trials)

    @property
    def ok(self) -> bool:
        """Return whether every trial that nobody cancelled or holds is done."""
        bad = (State.FAILED, State.BLOCKED, *UNFINISHED)
        return not any(view.state in bad for view in self.trials)

    def settled(self, resting: Collection[str]) -> bool:
        """Return whether nothing more is to come of the trials.

        Of those that are held, only `resting` rest: who holds trials during a run releases them in it. A trial is done
        once the scheduler has logged so, a moment after the last result is there.
        """
        logged = self.store.history.dispatched.isdisjoint
        return not self.unfinished and all(
            view.trial.id in resting
            if view.state is State.HELD
            else view.state is not State.DONE or logged(view.trial.path)
            for view in self.trials
        )

    @property
    def stops(self) -> list[str]:
        """Return why plans were stopped early, a text each."""
        stopped = self.store.history.stopped
        return [stopped[plan.digest] for plan in self.store.studies if plan.digest in stopped]

    @property
    def failure(self) -> StageFailed | None:
        """Return the first failure of a stage that the plans need: final, or one of those that stopped a plan."""
        history = self.store.history
        found: Iterable[StageFailed] = history.failures.values()
        if self.stops:
            found = [*found, *history.setbacks.values()]
        return next((record for record in found if self.needs(record.key)), None)
