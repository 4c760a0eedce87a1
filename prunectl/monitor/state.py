"""The state of a store, computed from its files alone: plans, the scheduler's heartbeat and log, and stages.

A stage's state is `records.stage.stage_state`: no state is stored, so none can be wrong after a crash. The scheduler's
log and heartbeat say which stages to look at again; logs are read on from where reading stopped.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, KeysView, Sequence
from dataclasses import dataclass, field

from prunectl.errors import StoreError
from prunectl.spec.state import State
from prunectl.spec.study import Study
from prunectl.spec.task import CLASSIFICATION, Metric
from prunectl.spec.trial import Trial
from prunectl.store import files
from prunectl.store.locks import is_held
from prunectl.store.paths import RESULT, StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import Epoch, read_events
from prunectl.store.records.heartbeat import HeartbeatRecord, read_heartbeat
from prunectl.store.records.journal import START, Position
from prunectl.store.records.plan import Versions, plan_versions, read_outline, read_study
from prunectl.store.records.scheduler_log import (
    Answered,
    Dispatched,
    History,
    StageDone,
    StageInterrupted,
    WorkerEnded,
    WorkerStarted,
)
from prunectl.store.records.stage import read_spec, stage_state

RESCAN_SECONDS = 30.0
"""Between looks at every stage, which find results that the scheduler's log says nothing of."""

OUTLINE_BYTES = 4 << 20
"""Plan records from this size on, 0.05 s to read, are read without their stages first where `outline_first`."""

SCORES = 14
EVENTS = 200

STAGE_RECORDS = (
    Dispatched, Answered, StageDone, StageInterrupted, WorkerEnded, WorkerStarted,
)  # fmt: skip
"""Types of records that concern only the stage they name, whose state is computed anew anyway."""


@dataclass
class LogTail:
    """The event log of a running stage, as far as it was read."""

    position: Position = START
    epoch: Epoch | None = None
    """The last record of this type."""
    scores: deque[float | None] = field(default_factory=lambda: deque(maxlen=SCORES))

    def read_on(self, paths: StorePaths, key: str) -> bool:
        """Read what is new. Returns whether there was anything."""
        log = read_events(paths.stage(key).events, self.position)
        for record in log.records:
            if isinstance(record, Epoch):
                self.epoch = record
                self.scores.append(record.score)
        grown = log.end != self.position
        self.position = log.end
        return grown


@dataclass
class Change:
    """What an update found that the one before did not."""

    everything: bool = False
    """Plans, or what concerns any trial: holds, failures, whether a scheduler is alive."""
    stages: set[str] = field(default_factory=set)
    """Those in another state."""
    progress: bool = False
    """The heartbeat, a log, or the event log of a running stage."""
    records: Sequence[LogRecord] = ()
    """New ones of the scheduler's log."""

    def __bool__(self) -> bool:
        return self.everything or bool(self.stages) or self.progress


class StoreState:
    """What the files of a store say. `update` reads them; every attribute is what it found."""

    def __init__(
        self, paths: StorePaths, *, plans: Sequence[Study] = (), outline_first: bool = False
    ) -> None:
        """`plans` are those to look at, by default the newest version of each in the store.

        `outline_first`: where plans are long, the first update reads their trials and the second also the stages'
        steps.
        """
        self.paths = paths
        self._plans = plans
        self._outline_first = outline_first
        self.history = History()
        self.events: deque[LogRecord] = deque(maxlen=EVENTS)
        """The last records of the scheduler's log."""
        self.studies: Sequence[Study] = ()
        """The plans."""
        self.versions: dict[str, Versions] = {}
        """All versions of the store's plans, by name; empty where `plans` were given."""
        self._bad_plans: list[str] = []
        self._bad_heartbeat: list[str] = []
        self._results: dict[str, files.Status] = {}
        """Size and time of the results that were read, by their stages' folders."""
        self.trials_of: dict[str, list[Trial]] = {}
        """Trials whose path has the stage."""
        self.steps: dict[str, int] = {}
        """Of each stage of the plans; empty after an outline."""
        self.alive = False
        """A scheduler holds the store."""
        self.heartbeat = HeartbeatRecord()
        """The last one, also of a scheduler that is gone."""
        self.states: dict[str, State] = {}
        """Of the stages that are not waiting."""
        self.tails: dict[str, LogTail] = {}
        """Of the stages that are running."""
        self._replays: dict[str, tuple[str, int]] = {}
        self._plan_files: tuple[tuple[str, int], ...] | None = None
        self._heartbeat_mtime = 0
        self._scanned = float("-inf")

    @property
    def complete(self) -> bool:
        """Whether all plans have been read with their stages."""
        return self._plan_files is not None

    @property
    def unreadable(self) -> list[str]:
        """A sentence for each plan record that cannot be read, and for the heartbeat."""
        return [*self._bad_plans, *self._bad_heartbeat]

    @property
    def beat(self) -> HeartbeatRecord:
        """The heartbeat of the live scheduler; an empty one where none is alive."""
        return self.heartbeat if self.alive else HeartbeatRecord()

    @property
    def running(self) -> KeysView[str]:
        """Keys of the stages that a worker is running."""
        return self.tails.keys()

    def update(self, now: float) -> Change:
        """Read what is new at Unix time `now`. Returns what changed."""
        change = Change()
        self._update_plans(change)
        change.records = records = self.history.catch_up(self.paths)
        self.events.extend(records)
        change.everything |= any(not isinstance(record, STAGE_RECORDS) for record in records)
        change.progress |= bool(records)
        self._update_heartbeat(change)
        self._update_stages(change, records, now)
        for key, tail in self.tails.items():
            change.progress |= tail.read_on(self.paths, key)
        return change

    def _update_plans(self, change: Change) -> None:
        found = []
        for path in files.disk.glob(self.paths.plans, "*.json"):
            with contextlib.suppress(FileNotFoundError):  # removed just now
                found.append((path.name, files.disk.status(path)))
        seen = tuple((name, status.mtime_ns) for name, status in found)
        if seen == self._plan_files:
            return
        size = sum(status.size for _, status in found)
        outline = self._outline_first and size >= OUTLINE_BYTES
        self._outline_first = False
        # None after an outline, so that the next update reads the plans once more, with their stages.
        self._plan_files = None if outline else seen
        self._bad_plans = []
        read = read_outline if outline else read_study
        self.studies = self._plans
        if not self._plans:
            self.versions = plan_versions(self.paths, read, self._bad_plans.append)
            self.studies = [versions.current for versions in self.versions.values()]
        self.trials_of, self.steps = {}, {}
        for study in self.studies:
            self.steps.update((key, stage.steps) for key, stage in study.stages.items())
            for trial in study.trials:
                for key in trial.path:
                    self.trials_of.setdefault(key, []).append(trial)
        self._scanned = float("-inf")
        change.everything = True

    def _update_heartbeat(self, change: Change) -> None:
        alive = is_held(self.paths.scheduler_lock)
        mtime = 0
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            mtime = files.disk.status(self.paths.heartbeat).mtime_ns
        if mtime != self._heartbeat_mtime:
            self._bad_heartbeat = []
            self.heartbeat = read_heartbeat(self.paths, self._bad_heartbeat.append)
            change.progress = True
        change.everything |= alive != self.alive
        self.alive, self._heartbeat_mtime = alive, mtime

    def _update_stages(self, change: Change, records: Iterable[LogRecord], now: float) -> None:
        candidates = {key for record in records if (key := getattr(record, "key", None))}
        # Also what runs without a record: the log of a scheduler that was killed ends in `dispatched`.
        candidates |= self.running | self.history.dispatched
        candidates |= set(self.heartbeat.running)
        candidates = {key for key in candidates if self.states.get(key) is not State.DONE}
        if not 0 <= now - self._scanned <= RESCAN_SECONDS:
            self._scanned = now
            # Results can be removed, by hand or by garbage collection; only this scan notices.
            candidates |= self.states.keys() | (self.trials_of.keys() & self._folders())
        stages = self.paths.stages
        running = set()
        for key in candidates:
            before = self.states.pop(key, State.WAITING)
            state = self._state(f"{stages}/{key}", before)
            if state is not State.WAITING:
                self.states[key] = state
            if state is not before:
                change.stages.add(key)
            if state is State.RUNNING:
                running.add(key)
        self.tails = {key: self.tails.get(key) or LogTail() for key in running}

    def _state(self, folder: str, before: State) -> State:
        """Return a stage's state; the result of one that was done is read again only if it is another file by now."""
        with contextlib.suppress(OSError):
            status = files.disk.status(f"{folder}/{RESULT}")
            if before is State.DONE and self._results.get(folder) == status:
                return before
            self._results[folder] = status
        return stage_state(folder)

    def _folders(self) -> set[str]:
        """List the stages that have a folder; the others have not begun."""
        return set(files.disk.folders(self.paths.stages))

    def trials_for(self, key: str) -> list[Trial]:
        """List the trials that need a stage; for a replay those with a stage that starts from it."""
        if key in self.trials_of:
            return self.trials_of[key]
        source = self.replay_of(key)
        if source is None:
            return []
        found = {
            trial.id: trial
            for study in self.studies
            for trial in study.trials
            if any(
                name in study.stages and study.stages[name].stage.checkpoint == source
                for name in trial.path
            )
        }
        return list(found.values())

    def score_of(self, trial: Trial) -> Metric:
        """Return what the score of a trial's networks is."""
        study = next((each for each in self.studies if each.name == trial.plan), None)
        return CLASSIFICATION.score if study is None else study.score_of(trial.task)

    def trial_ids(self, key: str) -> tuple[str, ...]:
        """Return the ids of the trials that need a stage."""
        return tuple(trial.id for trial in self.trials_for(key))

    def replay_of(self, key: str) -> tuple[str, int] | None:
        """Return the (dense stage, step) that a stage which is in no plan replays; None where it is no replay."""
        if key not in self._replays:
            try:
                stage = read_spec(self.paths.stage(key)).stage
            except (OSError, StoreError):
                return None
            if not stage.replay or stage.checkpoint is None:
                return None
            self._replays[key] = stage.checkpoint
        return self._replays[key]
