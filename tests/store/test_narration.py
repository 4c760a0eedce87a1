"""Every record that the logs may have is told in a sentence; what cannot be told is named, and never raises."""

from __future__ import annotations

import pytest

from prunectl.store.narration import describe, describe_event, failure

STAGE = (
    *("start", "pruned", "begin", "epoch", "checkpoint"),
    *("note", "interrupted", "failed", "done"),
)
"""Types of records of a stage's log."""
SCHEDULER = (
    *("run_started", "queued", "dispatched", "stage_done", "stage_interrupted", "stage_failed"),
    *("reopened", "blocked", "cancelled", "held", "released", "retried", "priority"),
    *("drained", "undrained", "leased", "lanes", "worker_started", "worker_ended"),
    *("study_stopped", "request", "run_ended"),
)
"""Types of records of the scheduler's log."""


@pytest.mark.parametrize("kind", STAGE)
def test_a_stages_records_are_told_whatever_they_lack(kind: str) -> None:
    text = describe_event({"type": kind, "text": "a note"}, 1, "0.5")
    assert text
    assert "\n" not in text


def test_what_a_stages_log_does_not_have_is_not_told() -> None:
    assert describe_event({"type": "unheard of"}, 1, "0.5") == ""
    assert describe_event({}, 0, "0") == ""


@pytest.mark.parametrize("kind", [*SCHEDULER, "unheard of"])
def test_the_schedulers_records_are_named_where_fields_lack(kind: str) -> None:
    text = describe({"type": kind})
    assert text
    assert "None" not in text


def test_sentences() -> None:
    dense = {"type": "start", "device": "cpu", "pid": 7, "attempt": 2, "resumed": True, "step": 40}
    assert describe_event(dense, 0, "0") == (
        "dense network goes on at step 40 on cpu (pid 7, attempt 2)"
    )
    done = {"type": "done", "accuracy": 91.234, "seconds": 75, "flag": "collapsed"}
    assert describe_event(done, 3, "0.5") == "done: accuracy 91.23, collapsed (1m15)"
    failed = {"type": "stage_failed", "reason": "oom", "message": "", "final": True}
    assert describe(failed) == "failed, oom"
    assert describe(failed | {"final": False, "message": "full"}) == "to be tried again, oom: full"
    assert describe({"type": "held", "trials": ["a", "b"]}) == "held 2 trials"
    assert failure("lost", None) == "lost"
