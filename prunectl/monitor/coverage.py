"""Count how many seeds of each method have reached each sparsity; only what changed is counted again."""

from __future__ import annotations

from collections.abc import Iterable

from prunectl.monitor.snapshot import CoverageView
from prunectl.monitor.state import Change, StoreState
from prunectl.spec.state import State
from prunectl.spec.trial import Trial

Group = tuple[str, tuple[tuple[str, str], ...], str]
"""Plan, labels, sparsity: the seeds of each are counted."""


class Coverage:
    """The counts of a store's plans."""

    def __init__(self, store: StoreState) -> None:
        self._store = store
        self._members: dict[Group, list[tuple[Trial, int]]] = {}
        """Trials with the iteration at which they reach the sparsity."""
        self._groups_of: dict[str, list[Group]] = {}
        """By stage."""
        self._counts: dict[Group, CoverageView] = {}

    def update(self, change: Change) -> tuple[CoverageView, ...]:
        """Count what the change concerns anew. Returns all counts."""
        if change.everything:
            self._regroup()
            stale: Iterable[Group] = self._members
        else:
            stale = {group for key in change.stages for group in self._groups_of.get(key, ())}
        for group in stale:
            self._counts[group] = self._count(group)
        return tuple(self._counts.values())

    def _regroup(self) -> None:
        self._members, self._groups_of, self._counts = {}, {}, {}
        for study in self._store.studies:
            for trial in study.trials:
                labels = tuple(sorted(trial.labels.items()))
                for iteration in range(1, len(trial.path)):
                    group = study.name, labels, trial.sparsities[iteration]
                    self._members.setdefault(group, []).append((trial, iteration))
                    self._groups_of.setdefault(trial.path[iteration], []).append(group)

    def _count(self, group: Group) -> CoverageView:
        store, failures = self._store, self._store.history.failures
        members = self._members[group]
        # Paths are searched only where something failed at all: a store of 10,000 trials has 130,000 members.
        states = [store.states.get(trial.path[iteration]) for trial, iteration in members]
        failed = (
            any(key in failures for key in trial.path[: iteration + 1])
            for trial, iteration in members
        )
        return CoverageView(
            plan=group[0],
            labels=dict(group[1]),
            sparsity=group[2],
            done=states.count(State.DONE),
            total=len(states),
            running=states.count(State.RUNNING),
            failed=sum(failed) if failures else 0,
        )
