"""How a worker tells an error of a stage from a lost device, by asking the device."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from prunectl.worker.failures import failed_record, has_lost
from tests.support import fakecuda
from tests.support.failing_allocations import OutOfMemoryAt

pytestmark = [pytest.mark.gpu, pytest.mark.fake]


def test_a_device_without_room_is_not_lost() -> None:
    with OutOfMemoryAt(1) as memory:
        assert not has_lost("cuda")
    assert memory.left == 0


@pytest.mark.numbers
def test_a_device_that_computes_is_not_lost() -> None:
    assert not has_lost("cuda")


LOST = """
import torch
from prunectl.worker.failures import failed_record
values = torch.ones(4, device="cuda")
try:
    for _ in range(9):
        values.add_(1)
    raise SystemExit("not lost")
except RuntimeError as error:
    record = failed_record(error, "cuda", 3)
assert record.reason == "device", record
assert record.step == 3
assert "\\n" not in record.message, record.message
"""


@pytest.mark.parametrize("error", [214, 700, 719])
def test_an_error_that_stays_is_the_device_s(error: int) -> None:
    """ECC, an illegal address, a failed launch: told in one line, without CUDA's advice."""
    done = subprocess.run(
        [sys.executable, "-c", LOST],
        env=fakecuda.environment(fail_at=4, fail_error=error),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_memory_that_runs_out_is_the_stage_s() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
    assert failed_record(caught.value, "cuda", 0).reason == "oom"
