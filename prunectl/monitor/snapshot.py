"""Frozen values that describe a store at one moment, for viewers.

Times are Unix seconds, durations seconds, memory bytes. States are those of `spec.state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prunectl.spec.state import State
from prunectl.spec.task import CLASSIFICATION, Metric
from prunectl.spec.trial import Trial
from prunectl.store.records.events import Epoch
from prunectl.store.records.heartbeat import DeviceBeat
from prunectl.text import version_title


@dataclass(frozen=True, slots=True)
class SchedulerView:
    """The store's scheduler."""

    alive: bool
    """It holds the store's lock now."""
    age: float | None = None
    """Since its last heartbeat; None where there has never been one."""
    run: str | None = None
    pid: int | None = None
    host: str | None = None
    started: float | None = None
    stopping: str | None = None
    """`soft`, `now` or None."""
    ended: float | None = None
    """When the last one ended; None where it is alive, and where it was killed."""
    trouble: str | None = None
    eta: float | None = None
    """When the last stage is expected to be done."""


@dataclass(frozen=True, slots=True)
class RunningView:
    """A stage that a worker is running."""

    key: str
    trials: tuple[str, ...]
    """That need it."""
    labels: Mapping[str, str]
    """Of the first of them, with `seed`."""
    iteration: int
    iterations: int
    """The last one of that trial."""
    sparsity: str
    """That it prunes to."""
    replay: bool
    step: int
    steps: int
    device: str | None = None
    worker: int | None = None
    attempt: int | None = None
    since: float | None = None
    loss: float | None = None
    score: float | None = None
    """The task's, on the test set, as the worker last reported."""
    eta: float | None = None
    """Seconds until it is done."""
    epoch: Epoch | None = None
    """Its last one."""
    scores: tuple[float | None, ...] = ()
    """Test scores of its last epochs, oldest first."""
    metric: Metric = CLASSIFICATION.score
    """What the scores are."""


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial of a plan, and how far it is."""

    trial: Trial
    state: State
    iteration: int
    """Of the first stage that is not done; the last one where all are."""
    steps: int
    steps_done: int
    priority: int = 0
    reason: str = ""
    """Why it is neither running nor done, in words; "" where it only waits for a slot."""
    eta: float | None = None
    """When it is expected to be done."""


@dataclass(frozen=True, slots=True)
class QueuedView:
    """A trial that waits."""

    trial: str
    key: str
    """The stage it waits for."""
    iteration: int
    seconds: float | None
    """That stage is expected to take."""
    reason: str


@dataclass(frozen=True, slots=True)
class FailureView:
    """A stage of a current plan whose failure was final, in this run or the last."""

    key: str
    trials: tuple[str, ...]
    """That need it; at least one."""
    reason: str
    message: str
    traceback: str
    log: str
    attempt: int
    time: float


@dataclass(frozen=True, slots=True)
class EventView:
    """Something the scheduler did."""

    time: float
    kind: str
    """The record's type in scheduler.jsonl."""
    text: str
    key: str | None = None
    trials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CoverageView:
    """How many seeds of a method have reached a sparsity."""

    plan: str
    labels: Mapping[str, str]
    sparsity: str
    done: int
    total: int
    running: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of a plan that has several."""

    number: int
    """From 1, in the order in which they were first run."""
    digest: str
    file: str
    """That it was read from."""
    trials: int
    used: float | str | None
    """When it was last run."""
    current: bool
    """It was used last: the one that all else is about."""


@dataclass(frozen=True, slots=True)
class PlanView:
    """The current version of a plan."""

    name: str
    digest: str
    active: bool
    """The live scheduler runs it."""
    counts: Mapping[State, int]
    """Trials by state."""
    stages: int
    stages_done: int
    steps: int
    steps_done: int
    stopped: str = ""
    """Why it was stopped early."""
    version: int = 1
    versions: tuple[VersionView, ...] = ()
    """All of the plan; empty where there is only one."""

    @property
    def title(self) -> str:
        """Return the name, with the version where there are several."""
        return version_title(self.name, self.version, len(self.versions))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A store at one moment."""

    time: float
    store: str
    scheduler: SchedulerView
    plans: tuple[PlanView, ...] = ()
    unreadable: tuple[str, ...] = ()
    """A sentence for each plan record that cannot be read, and for the heartbeat."""
    counts: Mapping[State, int] = field(default_factory=dict)
    """Trials by state: of the plans that the live scheduler runs, or of all where none is running."""
    devices: tuple[DeviceBeat, ...] = ()
    """Of the live scheduler."""
    running: tuple[RunningView, ...] = ()
    """In the order they were started."""
    queue: tuple[QueuedView, ...] = ()
    """The first ones in the order they will start; those on hold last."""
    trials: tuple[TrialView, ...] = ()
    failures: tuple[FailureView, ...] = ()
    events: tuple[EventView, ...] = ()
    """Oldest first."""
    coverage: tuple[CoverageView, ...] = ()
