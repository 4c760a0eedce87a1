"""Memory that runs out in one stage of a worker, and the bits of all of them."""

from __future__ import annotations

from pathlib import Path

import torch

from prunectl.ml.training.state import TrainingState
from prunectl.spec.key import stage_key
from prunectl.store.paths import StorePaths
from prunectl.worker.checkpoint import load_state
from prunectl.worker.trainer_cache import TrainerCache
from tests.full import full
from tests.support.failing_allocations import OutOfMemoryAt
from tests.support.sharing import Sharing, spec

NEIGHBOUR, STAGE = spec("convnet", 0, 12), spec("resnet-8", 1, 4)
EACH = range(1, 301) if full() else range(1, 301, 30)


def side_by_side(folder: Path, operation: int) -> tuple[list[TrainingState], list[str]]:
    """Train both, the second running out of memory at an operation (0: at none). Returns their ends, and failures."""
    paths = StorePaths(folder)
    worker = Sharing(paths, TrainerCache(folder, "cpu"))
    steps = worker.begin(NEIGHBOUR)
    for _ in range(4):
        assert worker.turn(steps)
    turns, left, going = worker.turns_with_retries(STAGE), operation, [True, True]
    while any(going):
        with OutOfMemoryAt(left) as memory:
            going[0] = next(turns, True) is None
        left = memory.left
        going[1] = worker.turn(steps)
    ends = [load_state(paths.stage(stage_key(each)).final) for each in (NEIGHBOUR, STAGE)]
    return ends, worker.failures


def test_bits_do_not_depend_on_where_memory_ran_out(tmp_path: Path) -> None:
    """Neither the neighbour's nor, in the end, those of the stage itself."""
    expected, none = side_by_side(tmp_path / "none", 0)
    assert not none
    for operation in EACH:
        found, failures = side_by_side(tmp_path / str(operation), operation)
        assert len(failures) == 1, operation
        for one, other in zip(found, expected, strict=True):
            for part in ("weights", "optimizer", "accumulators"):
                for name, tensor in getattr(other, part).items():
                    assert torch.equal(getattr(one, part)[name], tensor), (operation, name)
