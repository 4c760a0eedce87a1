"""`doctor` beside drivers and devices that are broken in every way the fake runtime knows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prunectl.findings import Finding
from prunectl.scheduler.devices.cuda import CudaLayer
from prunectl.scheduler.devices.locks import DeviceLocks
from tests.support.command import prunectl

pytestmark = [pytest.mark.gpu, pytest.mark.fake]

Examine = Callable[..., tuple[int, dict[str, Finding]]]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Runs the command with FAKE_NAME=value for each argument. Returns its exit status and findings."""
    monkeypatch.setenv("PRUNECTL_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("FAKE_SESSION", f"doctor-{tmp_path.name}")

    def run(limit: float = 60, **knobs: object) -> tuple[int, dict[str, Finding]]:
        with monkeypatch.context() as patch:
            for name, value in knobs.items():
                patch.setenv(f"FAKE_{name.upper()}", str(value))
            done = prunectl("doctor", "--json", "--store", tmp_path, "--limit", str(limit))
        assert not done.stderr
        found = json.loads(done.stdout)["findings"]
        return done.returncode, {each["about"]: Finding(**each) for each in found}

    return run


def test_healthy_devices(examine: Examine) -> None:
    status, found = examine(devices=2)
    assert status == 0
    assert {each.health for each in found.values()} <= {"ok", "warning"}
    for about in ("driver", "NVML", "torch", "cuda:1 memory", "cuda:1 kernels", "cuda:1 precision"):
        assert found[about].health == "ok", found[about]
    assert "shows 2 CUDA devices" in found["driver"].found


@pytest.mark.parametrize(
    ("how", "status", "health", "said"),
    [
        ("missing", 0, "warning", "missing"),
        ("lost", 1, "error", "GPU is lost"),
        ("hang", 1, "error", "no answer within 3 s"),
    ],
)
def test_nvml(examine: Examine, how: str, status: int, health: str, said: str) -> None:
    exited, found = examine(limit=3 if how == "hang" else 60, nvml=how)
    assert found["NVML"].health == health
    assert said in found["NVML"].found
    assert found["NVML"].advice
    if how != "hang":  # in 3 s torch may not have answered, either
        assert exited == status
        assert found["torch"].health == "ok"


def test_a_mig_instance(examine: Examine) -> None:
    status, found = examine(devices=2, mig=1)
    assert status == 0
    assert found["cuda:0 MIG"].health == "warning"
    assert "cuda:1" not in found
    assert "there are also MIG-" in found["cuda:0 MIG"].found


def test_memory_that_others_have_filled(examine: Examine) -> None:
    status, found = examine(base_mb=81000)
    assert status == 1
    assert found["cuda:0 memory"].health == "error"
    assert "hidden" in found["cuda:0 memory"].found


def test_a_device_without_bf16_and_kernels(examine: Examine) -> None:
    status, found = examine(cc=70)
    assert status == 0
    assert found["cuda:0 precision"].health == "warning"
    assert found["cuda:0 kernels"].health == "warning"


def test_a_device_that_fails_at_its_first_kernel(examine: Examine) -> None:
    status, found = examine(fail_at=1, fail_error=719)
    assert status == 1
    assert found["cuda:0 kernels"].health == "error"


def test_a_lock_of_another_scheduler(examine: Examine) -> None:
    (device,) = CudaLayer(os.environ).devices()
    locks = DeviceLocks(note="another study")
    assert locks.acquire(device) is None
    try:
        assert examine()[1]["cuda:0 lock"].found == "held by another study"
    finally:
        locks.release_all()
