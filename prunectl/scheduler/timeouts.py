"""What the scheduler waits for, and how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Times in seconds, and how often a stage may fail."""

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
    lease: float = 120.0
    """For a worker whose end nobody saw: it ends itself when it has not reached its scheduler for as long."""
    beat: float = 1.0
    """Between heartbeats, and between ingestions."""
    device_lock: float = 5.0
    """Between attempts to lock a device that another scheduler has."""
    forecast: float = 10.0
    """Between forecasts."""
    measure: float = 20.0
    """Of training side by side, after which the speed of a number of slots counts as measured."""
    measure_steps: int = 1000
    """And so many steps."""
    poll: float = 0.25
    """Between looks for requests."""


class Timer:
    """Comes due at once, and then every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.next = 0.0
        self._seconds = seconds

    def due(self, now: float) -> bool:
        """Return whether it is due at `now` (monotonic seconds); it then starts anew."""
        if now < self.next:
            return False
        self.next = now + self._seconds
        return True
