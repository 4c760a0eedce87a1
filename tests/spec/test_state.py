"""The rules of states, over all that can be asked and all states a path can have."""

from __future__ import annotations

import itertools

import pytest

from prunectl.spec.state import State, asked_of, resting_state, trial_state

OWN = (
    *(State.WAITING, State.RUNNING, State.DONE),
    *(State.FAILED, State.BLOCKED, State.INTERRUPTED),
)
"""States that a stage of a path can have."""
ASKED = [
    asked_of(cancelled=cancelled, stopped=stopped, held=held)
    for cancelled, stopped, held in itertools.product((False, True), repeat=3)
]
PATHS = [set(path) for size in (1, 2, 3) for path in itertools.combinations(OWN, size)]


def test_what_is_asked_last_counts_least() -> None:
    assert asked_of(cancelled=False, stopped=False, held=False) is State.WAITING
    assert asked_of(cancelled=False, stopped=False, held=True) is State.HELD
    assert asked_of(cancelled=False, stopped=True, held=True) is State.BLOCKED
    assert asked_of(cancelled=True, stopped=True, held=True) is State.CANCELLED


@pytest.mark.parametrize("asked", sorted(set(ASKED)))
@pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(sorted(path)))
def test_a_trial(path: set[State], asked: State) -> None:
    state = trial_state(path, asked)
    assert (state is State.DONE) == (path == {State.DONE})
    if path == {State.DONE}:
        return
    assert (state is State.CANCELLED) == (asked is State.CANCELLED)
    if asked is not State.CANCELLED:
        assert (state is State.FAILED) == (State.FAILED in path)
        assert (state is State.RUNNING) == (State.RUNNING in path and State.FAILED not in path)
    if asked is State.HELD:
        assert state in {State.HELD, State.FAILED, State.RUNNING, State.BLOCKED}
    if state is State.INTERRUPTED:
        assert asked is State.WAITING
        assert State.INTERRUPTED in path


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_stage_that_rests(count: int, blocked: bool) -> None:
    for asked in itertools.product(set(ASKED), repeat=count):
        state = resting_state(asked, blocked=blocked)
        live = State.WAITING in asked or State.HELD in asked
        assert (state is State.WAITING) == (State.WAITING in asked and not blocked)
        assert (state is State.HELD) == (live and State.WAITING not in asked and not blocked)
        if not live:
            assert state is (State.BLOCKED if State.BLOCKED in asked else State.CANCELLED)
        elif blocked:
            assert state is State.BLOCKED
