"""The states of stages and trials and the rules they follow from: the queue and those who watch it apply the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum


class State(StrEnum):
    """Of a stage or a trial."""

    WAITING = "waiting"
    """For a slot, for what it needs, or for a scheduler."""
    HELD = "held"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"
    """What it needs has failed, or its study was stopped."""
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Begun, not done, and no worker is running it."""


def asked_of(*, cancelled: bool, stopped: bool, held: bool) -> State:
    """Return what is asked of a trial: CANCELLED, BLOCKED where its study was stopped, HELD, or WAITING to run."""
    if cancelled:
        return State.CANCELLED
    if stopped:
        return State.BLOCKED
    return State.HELD if held else State.WAITING


def resting_state(asked: Iterable[State], *, blocked: bool) -> State:
    """Return the state of a stage that neither runs nor has ended, from what is asked of its trials.

    A shared stage waits to run while any of its trials does, and rests while all that are left of them are held.
    `blocked`: something that it needs has failed.
    """
    found = set()
    for ask in asked:
        if ask is State.WAITING and not blocked:
            return ask
        found.add(ask)
    if found <= {State.CANCELLED, State.BLOCKED}:
        return State.BLOCKED if State.BLOCKED in found else State.CANCELLED
    return State.BLOCKED if blocked else State.HELD


def trial_state(path: Collection[State], asked: State) -> State:
    """Return a trial's state from what is asked of it and the states of its stages, without what is asked of others.

    Failed goes before running: a path with a failed stage will not end, whatever of it still runs. Running goes before
    held and stopped: the stage that runs is left to its end, or shared.
    """
    if all(state is State.DONE for state in path):
        return State.DONE
    if asked is State.CANCELLED:
        return asked
    for state in (State.FAILED, State.RUNNING, State.BLOCKED):
        if state in path:
            return state
    if asked is not State.WAITING:
        return asked
    return State.INTERRUPTED if State.INTERRUPTED in path else State.WAITING
