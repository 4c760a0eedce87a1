"""Every record that the logs may have is told in a sentence; what cannot be told is named, and never raises."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from prunectl.spec.task import CLASSIFICATION, Metric
from prunectl.store.narration import describe, describe_event, failure
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import Event, Note, Start
from prunectl.store.records.journal import Unknown
from prunectl.store.records.requests import Stop
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import Held, SchedulerRecord, StageDone, StageFailed

SCORE = CLASSIFICATION.score


def bare(kind: type[LogRecord]) -> LogRecord:
    """A record with nothing but what it must have."""
    needed = {
        "metric": SCORE, "request": Stop(), "of": ("net", "data", 1, "fp32"), "lanes": 1, "worker": 1,
    }  # fmt: skip
    required = (field.name for field in msgspec.structs.fields(kind) if field.required)
    return kind(**{name: needed.get(name, "x") for name in required})


@pytest.mark.parametrize("kind", get_args(Event))
def test_a_stages_records_are_told_whatever_they_lack(kind: type[LogRecord]) -> None:
    text = describe_event(bare(kind), 1, "0.5", SCORE)
    assert (text == "") == (kind is Note), "an empty note is no line"
    assert "None" not in text
    assert "\n" not in text


@pytest.mark.parametrize("kind", get_args(SchedulerRecord))
def test_the_schedulers_records_are_told_whatever_they_lack(kind: type[LogRecord]) -> None:
    text = describe(bare(kind))
    assert text
    assert "None" not in text


def test_what_this_version_does_not_know_is_named_or_left_out() -> None:
    assert describe(Unknown(kind="unheard_of")) == "unheard_of"
    assert describe_event(Unknown(kind="unheard_of"), 1, "0.5", SCORE) == ""


def test_sentences() -> None:
    dense = Start(device="cpu", pid=7, attempt=2, resumed=True, step=40)
    assert describe_event(dense, 0, "0", SCORE) == (
        "dense network goes on at step 40 on cpu (pid 7, attempt 2)"
    )
    done = Result(metrics={"accuracy": 91.234}, seconds=75, flag="collapsed")
    assert describe_event(done, 3, "0.5", SCORE) == "done: accuracy 91.23, collapsed (1m15)"
    rmse = Metric("rmse", higher_is_better=False, digits=4)
    assert describe_event(Result(metrics={"rmse": 0.5}), 1, "0.5", rmse).startswith(
        "done: rmse 0.5000"
    )
    assert describe(StageDone(key="k", score=0.5, metric=rmse)) == "done, 0.5000"
    assert describe(StageDone(key="k", score=91.0, flag="collapsed")) == "done, 91.00 % (collapsed)"
    assert describe(StageFailed(key="k", reason="oom", final=True)) == "failed, oom"
    again = StageFailed(key="k", reason="oom", message="full")
    assert describe(again) == "to be tried again, oom: full"
    assert describe(Held(trials=("a", "b"))) == "held 2 trials"
    assert failure("lost", "") == "lost"
