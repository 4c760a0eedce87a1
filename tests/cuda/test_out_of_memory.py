"""Memory that runs out at any allocation: the stage is done in the end, and its neighbour notices nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prunectl.spec.key import stage_key
from prunectl.store.paths import StorePaths
from prunectl.store.records.stage import has_result
from prunectl.worker.trainer_cache import TrainerCache
from tests.full import full
from tests.support.failing_allocations import OutOfMemoryAt
from tests.support.fakecuda import counted, out_of_memory, traced
from tests.support.sharing import Sharing, spec

pytestmark = [pytest.mark.gpu, pytest.mark.fake]

LAST = 300
EACH = range(1, LAST + 1) if full() else range(1, LAST + 1, 10)


@dataclass(frozen=True)
class Outcome:
    """What became of a neighbour and a stage."""

    queued: list[str]
    """On the neighbour's stream, from when the stage began."""
    failures: list[str]
    notes: list[str]
    ran_out: bool
    """There were so many allocations."""


RunsOut = Callable[[int], AbstractContextManager[Any]]
"""Lets memory run out at an allocation inside; what it gives counts in `left` how many there are until then."""


def side_by_side(folder: Path, runs_out: RunsOut, allocation: int) -> Outcome:
    """Train a neighbour, and beside its second half a stage that runs out of memory at an allocation; 0 for none."""
    paths = StorePaths(folder)
    worker = Sharing(paths, TrainerCache(folder, "cuda"))
    neighbour, stage = spec("convnet", 0, 24), spec("resnet-8", 1, 8)
    steps = worker.begin(neighbour)
    for _ in range(8):
        assert worker.turn(steps)
    with traced() as before:
        assert worker.turn(steps)
    (stream,) = {where for where, what in before if what.startswith("graph")}
    turns, left, going = worker.turns_with_retries(stage), allocation, [True, True]
    with counted() as counts, traced() as queued:
        while any(going):
            with runs_out(left) as memory:
                going[0] = next(turns, True) is None
            left = memory.left
            going[1] = worker.turn(steps)
    for each in (neighbour, stage):
        assert has_result(paths, stage_key(each))
    worker.trainers.discard(*[one for idle in worker.trainers._idle.values() for one in idle])
    mine = [what for where, what in queued if where == stream]
    return Outcome(mine, worker.failures, counts.notes, allocation > 0 and left <= 0)


def check(folder: Path, runs_out: RunsOut, allocations: Iterable[int]) -> int:
    """Check that to the neighbour it is as if nothing had happened, and that no rule of CUDA's is broken.

    Returns how many stages failed for it.
    """
    expected = side_by_side(folder / "none", runs_out, 0)
    assert len(expected.queued) > 30
    assert not expected.failures
    failed = 0
    for allocation in allocations:
        found = side_by_side(folder / str(allocation), runs_out, allocation)
        assert found.queued == expected.queued, allocation
        assert len(found.failures) == found.ran_out, allocation
        assert not found.notes, allocation
        failed += len(found.failures)
        if not found.ran_out:
            break
    return failed


def test_the_device_may_run_out_at_any_of_its_allocations(tmp_path: Path) -> None:
    """Those that torch's caching allocator makes: as few as there are, all of them."""
    assert 3 <= check(tmp_path, out_of_memory, range(1, LAST + 1)) < LAST


def test_any_operation_may_find_no_memory(tmp_path: Path) -> None:
    """In loading, warming up, recording, training and evaluating."""
    assert check(tmp_path, OutOfMemoryAt, EACH) == len(EACH)
