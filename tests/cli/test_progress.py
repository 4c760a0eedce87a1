"""Lines of progress: one for each event, and one now and then while a stage takes long."""

from __future__ import annotations

import time
from typing import Literal

import pytest

from prunectl.cli.support import progress
from prunectl.cli.support.progress import Progress
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.store.records.heartbeat import EtaBeat, HeartbeatRecord, RunningBeat
from prunectl.store.records.scheduler_log import Queued, StageDone, StageFailed, WorkerStarted
from tests.cli.conftest import TINY


@pytest.fixture
def expansion() -> Expansion:
    """Two dense networks of 16 steps, and two strategies of two iterations each: 16 and 12 steps, 144 in all."""
    return expand(loads(TINY), None)


def heartbeat(
    running: dict[str, tuple[int, int]],
    end: float | None = None,
    stopping: Literal["soft"] | None = None,
) -> HeartbeatRecord:
    return HeartbeatRecord(
        time=time.time(),
        running={key: RunningBeat(step=at, steps=of) for key, (at, of) in running.items()},
        eta=EtaBeat(end=end),
        stopping=stopping,
    )


def test_an_event_is_a_line_with_percentage_and_eta(
    expansion: Expansion, capsys: pytest.CaptureFixture[str]
) -> None:
    dense, first = expansion.trials[0].path[:2]
    lines = Progress([expansion.study()], set())
    lines.event(StageDone(key=dense, score=91.5, seconds=3.0))
    lines.tick(heartbeat({first: (8, 16)}, end=time.time() + 184.2))
    lines.event(StageFailed(key=first, reason="oom", message="out of memory"))
    lines.event(WorkerStarted(worker=1))
    out, err = capsys.readouterr()
    assert out == ""
    done, failed = err.splitlines()
    assert done[8:] == "   11.1%  ETA –      done 1/10  dense · seed 0  91.50 %  (3s)"
    assert failed[8:].startswith(
        "   16.7%  ETA 3m04   fine-tune 0.5 · seed 0: to be tried again, oom"
    )


def test_a_long_stage_has_a_line_now_and_then(
    expansion: Expansion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Progress([expansion.study()], set(expansion.trials[0].path))
    running = {expansion.trials[1].path[0]: (4, 16)}  # the dense network of seed 1
    lines.tick(heartbeat(running))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    lines.tick(heartbeat(running, stopping="soft"))
    said = capsys.readouterr().err
    assert "stopping, 3/10 stages done, 1 running: dense · seed 1 25%" in said


def test_other_plans_are_named_and_count_for_nothing(
    expansion: Expansion, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ends last of its own is the ETA."""
    own = expansion.study()
    other = expand(loads(TINY.replace('"tiny"', '"other"').replace("[0, 1]", "[7]")), None).study()
    lines = Progress([own], set(), {other.digest: other}.__getitem__)
    lines.event(Queued(plan=other.digest))
    ends = {trial.id: time.time() + 60.2 for trial in own.trials}
    ends |= {trial.id: time.time() + 600 for trial in other.trials}
    lines.tick(HeartbeatRecord(eta=EtaBeat(end=time.time() + 600, trials=ends)))
    lines.event(StageDone(key=other.trials[0].path[0], seconds=1.0))
    assert "    0.0%  ETA 1m00   done 0/10  other: dense · seed 7" in capsys.readouterr().err


def test_a_replay_is_named_and_counts_for_nothing(
    expansion: Expansion, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Progress([expansion.study()], set())
    lines.event(StageDone(key="f" * 64, seconds=1.0))
    assert "  0.0%  ETA –      done 0/10  rewind point ffffffff" in capsys.readouterr().err
