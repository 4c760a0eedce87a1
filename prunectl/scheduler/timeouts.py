"""What the scheduler is patient with, and what a run came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunectl.scheduler.items import State


@dataclass(frozen=True)
class Limits:
    """Times in seconds."""

    retries: int = 2
    """Attempts of a stage beside the first."""
    same_failures: int = 3
    """Stages of a study that the same error has to end, none being done, to stop the study; 0 never stops."""
    hang: float = 300.0
    """Silence of a worker that has stages, or beats without progress, after which it is killed."""
    prepare: float = 1800.0
    """The same while a stage loads its data or compiles its first step, and beats meanwhile."""
    start: float = 300.0
    """The same for a worker that is starting: importing torch from a cold network disk takes minutes."""
    stop: float = 30.0
    """For workers to finish an epoch or checkpoint, as the worker protocol says."""
    grace: float = 15.0
    """For writing that checkpoint and ending, before they are killed."""
    beat: float = 1.0
    """Between heartbeats, and between ingestions."""
    lease: float = 5.0
    """Between attempts to lease a device that another scheduler has."""
    forecast: float = 10.0
    """Between forecasts."""
    measure: float = 20.0
    """Of training side by side, after which the speed of so many lanes counts as measured."""
    measure_steps: int = 1000
    """And so many steps."""
    poll: float = 0.25
    """Between looks for requests."""


@dataclass(frozen=True)
class Failure:
    """A stage that ended in failure."""

    key: str
    reason: str
    """exception, nonfinite, oom, missing, lost or hung."""
    message: str
    traceback: str
    log: str = ""
    """The last lines of its worker's log, before the traceback."""
    memory: str = ""
    """What of the device's memory was in use then, by everybody, in words."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    trials: dict[str, int]
    """How many are in each state at the end; states as in `items.State`."""
    stages: dict[str, int]
    """The same for stages, and `interrupted`: stopped inside their training, to go on in the next run."""
    ran: int = 0
    """Stages done in this run."""
    failure: Failure | None = None
    """The first one that was final, or that stopped a study."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Studies (by name) that were stopped early, and why."""
    interrupted: bool = False
    """Ended by a signal or a request to stop."""
    broken: str | None = None
    """Why the store could not be written any more, which ended the run; nothing recorded is lost."""

    @property
    def ok(self) -> bool:
        """Every trial that nobody cancelled or holds is done."""
        bad = (State.FAILED, State.BLOCKED, State.WAITING, State.RUNNING)
        return not any(self.trials.get(state, 0) for state in bad)
