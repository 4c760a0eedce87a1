"""How a store stands, from its files alone: plans, the scheduler's heartbeat and log, and its stages.

States are computed, not believed: a stage is done where its result is there, running where its lock is held
now, and begun where it has an event log. The scheduler's log and heartbeat say which stages to look at
again; logs are read from where they were left.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from prunectl.errors import StoreError
from prunectl.store.files import read_json
from prunectl.store.journal import Record, read
from prunectl.store.locks import is_held
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import Study, Trial, current_studies, read_outline, read_study
from prunectl.store.records.scheduler_log import History

RESCAN_SECONDS = 30.0
"""Between looks at every stage: results that come without a word in the scheduler's log are found then."""
LONG = 4 << 20
"""Bytes of plan records from which a hasty first look leaves the stages out: they take 0.05 s to read."""
ACCURACIES = 14
EVENTS = 200


@dataclass
class Tail:
    """The event log of a running stage, as far as it was read."""

    offset: int = 0
    epoch: Record | None = None
    """The last record of this type."""
    accuracies: deque[float | None] = field(default_factory=lambda: deque(maxlen=ACCURACIES))

    def catch_up(self, paths: StorePaths, key: str) -> bool:
        """Read on; whether there was anything."""
        records, offset = read(paths.stage(key).events, self.offset)
        for record in records:
            if record.get("type") == "epoch":
                self.epoch = record
                self.accuracies.append(record.get("accuracy"))
        grown = offset != self.offset
        self.offset = offset
        return grown


@dataclass
class Change:
    """What a look found that the one before did not."""

    everything: bool = False
    """Plans, or what concerns any trial: holds, failures, whether a scheduler is alive."""
    stages: set[str] = field(default_factory=set)
    """That are in another state."""
    beat: bool = False
    """The heartbeat, or the event log of a running stage."""

    def __bool__(self) -> bool:
        return self.everything or bool(self.stages) or self.beat


class LiveStore:
    """What the files of a store say. `look` brings it up to date; everything else is what it found."""

    def __init__(self, paths: StorePaths, *, hasty: bool = False) -> None:
        """`hasty`: where the plans are long, the first look knows the trials but not yet their stages' steps; the
        second look knows all."""
        self.paths = paths
        self._hasty = hasty
        self.history = History()
        self.events: deque[Record] = deque(maxlen=EVENTS)
        """The last records of the scheduler's log."""
        self.studies: list[Study] = []
        """The newest version of each plan."""
        self.trials_of: dict[str, list[Trial]] = {}
        """Trials whose path has the stage."""
        self.steps: dict[str, int] = {}
        """Of each stage of the plans; empty after a hasty look."""
        self.alive = False
        """A scheduler holds the store."""
        self.beat: dict[str, Any] = {}
        """The last heartbeat, be it of a scheduler that is gone."""
        self.done: set[str] = set()
        self.begun: set[str] = set()
        self.running: set[str] = set()
        self.tails: dict[str, Tail] = {}
        self._replays: dict[str, tuple[str, int]] = {}
        self._plan_files: tuple[tuple[str, int], ...] | None = None
        self._beat_mtime = 0
        self._scanned = float("-inf")

    @property
    def settled(self) -> bool:
        """Whether all plans have been read."""
        return self._plan_files is not None

    def look(self, now: float) -> Change:
        """Read what is new at Unix time `now`."""
        change = Change()
        self._look_at_plans(change)
        records = self.history.catch_up(self.paths)
        self.events.extend(records)
        change.everything |= any(record["type"] not in ORDINARY for record in records)
        change.beat |= bool(records)
        self._look_at_heartbeat(change)
        self._look_at_stages(change, records, now)
        for key in self.running:
            change.beat |= self.tails.setdefault(key, Tail()).catch_up(self.paths, key)
        return change

    def _look_at_plans(self, change: Change) -> None:
        try:
            with os.scandir(self.paths.plans) as entries:
                found = [
                    (entry.name, entry.stat())
                    for entry in entries
                    if entry.name.endswith(".json") and not entry.name.startswith(".")
                ]
        except OSError:
            found = []
        files = tuple(sorted((name, stat.st_mtime_ns) for name, stat in found))
        if files == self._plan_files:
            return
        hasty = self._hasty and sum(stat.st_size for _, stat in found) >= LONG
        self._hasty = False
        self._plan_files = None if hasty else files
        self.studies = current_studies(self.paths, read_outline if hasty else read_study)
        self.trials_of = defaultdict(list)
        self.steps = {}
        for study in self.studies:
            self.steps.update((key, stage.steps) for key, stage in study.stages.items())
            for trial in study.trials:
                for key in trial.path:
                    self.trials_of[key].append(trial)
        self.trials_of = dict(self.trials_of)
        self._scanned = float("-inf")
        change.everything = True

    def _look_at_heartbeat(self, change: Change) -> None:
        alive = is_held(self.paths.scheduler_lock)
        try:
            mtime = self.paths.heartbeat.stat().st_mtime_ns
        except OSError:
            mtime = 0
        if mtime != self._beat_mtime:
            try:
                self.beat = read_json(self.paths.heartbeat)
            except (OSError, StoreError):
                self.beat = {}
            change.beat = True
        change.everything |= alive != self.alive
        self.alive, self._beat_mtime = alive, mtime

    def _look_at_stages(self, change: Change, records: Iterable[Record], now: float) -> None:
        candidates = {record["key"] for record in records if isinstance(record.get("key"), str)}
        candidates |= self.running | self.history.dispatched
        candidates |= set(self.beat.get("running", {}))
        done, begun, running = set(self.done), set(self.begun), set(self.running)
        if not 0 <= now - self._scanned <= RESCAN_SECONDS:
            self._scanned = now
            candidates |= self.trials_of.keys() & self._folders()
            # Results can be removed, by hand or by garbage collection; only this look would notice.
            self.done.clear()
            self.begun.clear()
        self.running = set()
        stages, names = self.paths.stages, self.paths.stage("any")
        result, events = f"/{names.result.name}", f"/{names.events.name}"
        for key in candidates - self.done:
            # As text: for tens of thousands of stages, path objects take longer than the disk.
            folder = f"{stages}/{key}"
            if os.path.exists(folder + result):
                self.done.add(key)
                self.tails.pop(key, None)
            elif os.path.exists(folder + events):
                self.begun.add(key)
                if is_held(self.paths.stage(key).lock):
                    self.running.add(key)
        change.stages |= (done ^ self.done) | (begun ^ self.begun) | (running ^ self.running)

    def _folders(self) -> set[str]:
        """Stages that have a folder; the others have not begun."""
        try:
            return set(os.listdir(self.paths.stages))
        except OSError:
            return set()

    def trials_for(self, key: str) -> list[Trial]:
        """The trials that need a stage; for a replay those with a stage that starts from it."""
        if key in self.trials_of:
            return self.trials_of[key]
        source = self.replay_of(key)
        if source is None:
            return []
        found = {
            trial.trial: trial
            for study in self.studies
            for trial in study.trials
            if any(
                name in study.stages and study.stages[name].weights == source for name in trial.path
            )
        }
        return list(found.values())

    def replay_of(self, key: str) -> tuple[str, int] | None:
        """(dense stage, step) that a stage which is in no plan replays."""
        if key not in self._replays:
            try:
                weights = read_json(self.paths.stage(key).spec)["stage"]["weights"]
                self._replays[key] = weights["stage"], weights["step"]
            except (OSError, StoreError, KeyError, TypeError):
                return None
        return self._replays[key]


ORDINARY = frozenset(
    {
        "dispatched",
        "request",
        "stage_done",
        "stage_interrupted",
        "worker_ended",
        "worker_started",
    }
)
"""Records that concern only the stage they name, whose state is looked up anyway."""
