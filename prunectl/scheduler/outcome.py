"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunectl.spec.state import State


@dataclass(frozen=True)
class Failure:
    """A stage that ended in failure."""

    key: str
    reason: str
    """One of `store.records.events.REASONS`."""
    message: str
    attempt: int = 0
    """Number of the attempt at the stage that ended so."""
    traceback: str = ""
    log: str = ""
    """The last lines of its worker's log, before the traceback."""
    memory: str = ""
    """What of the device's memory was in use then, by everybody, in words."""
    missing: str | None = None
    """Key of the stage that lacks a file, where that is the reason."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    trials: dict[str, int]
    """How many are in each state at the end; states as in `spec.state`."""
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
    given_up: dict[str, str] = field(default_factory=dict)
    """Devices on which fresh workers kept being lost, and why, in words that follow "given up"."""
    outdated: str | None = None
    """How new workers differed from the scheduler: the package was changed while it ran, which ended the run."""

    @property
    def ok(self) -> bool:
        """Return whether every trial that nobody cancelled or holds is done."""
        bad = (State.FAILED, State.BLOCKED, State.WAITING, State.RUNNING)
        return not any(self.trials.get(state, 0) for state in bad)
