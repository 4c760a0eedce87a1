"""What `doctor` concludes about devices, from made-up answers of drivers and NVML."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from prunectl.child import Asked, NoAnswer
from prunectl.findings import Finding
from prunectl.scheduler import doctor
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.devices.cards import nvidia_cards
from prunectl.scheduler.devices.driver import Driver, ShownDevice
from prunectl.scheduler.devices.locks import DeviceLocks, holder
from prunectl.scheduler.devices.nvml_facts import Holder, Nvml, NvmlDevice

RAW = "101112131415161718191a1b1c1d1e1f"
GPU = "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f"
MIG = GPU.replace("GPU", "MIG")
CARD = ShownDevice(RAW, "H100", 80 << 30, (9, 0))
DRIVER = Driver((CARD,), cuda=13000)
NONE = Driver(trouble="the driver's library was not found", loaded=False)
EMPTY = Driver(trouble="cuInit failed", error=100, cuda=13000)
GIB = 1 << 30


def health(findings: list[Finding]) -> dict[str, str]:
    return {each.about: each.health for each in findings}


@pytest.mark.parametrize(
    ("driver", "cards", "visible", "expected", "said"),
    [
        (NONE, 0, None, "ok", "the CPU is used"),
        (NONE, 1, None, "warning", "1 NVIDIA card in the machine, and the driver's library"),
        (Driver(trouble="mismatch (803)", error=803), 1, None, "error", "mismatch (803)"),
        (Driver(trouble="no answer", answered=False), 1, None, "error", "broken: no answer"),
        (EMPTY, 0, None, "ok", "shows 0 CUDA devices"),
        (EMPTY, 2, None, "warning", "2 NVIDIA cards"),
        (EMPTY, 1, "", "ok", "CUDA_VISIBLE_DEVICES=''"),
        (DRIVER, 1, None, "ok", "supports CUDA 13.0, shows 1 CUDA device"),
    ],
)
def test_a_driver(
    driver: Driver, cards: int, visible: str | None, expected: str, said: str
) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    (finding,) = doctor.driver_findings(driver, ["card"] * cards, environment)
    assert finding.health == expected
    assert said in finding.found
    assert bool(finding.advice) == (expected != "ok")


@pytest.mark.parametrize(
    ("nvml", "devices", "expected"),
    [
        (Nvml(missing="no library"), 0, "ok"),
        (Nvml(missing="no library"), 1, "warning"),
        (Nvml(error="GPU is lost"), 1, "error"),
        (Nvml("580.1"), 1, "ok"),
    ],
)
def test_nvml(nvml: Nvml, devices: int, expected: str) -> None:
    (finding,) = doctor.nvml_findings(nvml, devices)
    assert finding.health == expected


@pytest.mark.parametrize(
    ("used", "expected"), [(0, "ok"), (39, "ok"), (41, "warning"), (79, "error")]
)
def test_memory_is_judged_by_what_is_free_and_names_who_holds_it(used: int, expected: str) -> None:
    holders = (Holder(7, 3 * 10**9, "python of eve"), Holder(8, 0))
    nvml = Nvml("580", (NvmlDevice(GPU, used * GIB, 80 * GIB, holders),))
    found = {each.about: each for each in doctor.device_findings(DRIVER, [GPU], nvml, {})}
    memory = found["cuda:0 memory"]
    assert memory.health == expected
    assert "pid 7 (python of eve, 3 GB), pid 8 (not of this container)" in memory.found


def test_memory_held_by_nobody_who_is_shown() -> None:
    nvml = Nvml("580", (NvmlDevice(GPU, 9 * GIB, 80 * GIB),))
    found = {each.about: each for each in doctor.device_findings(DRIVER, [GPU], nvml, {})}
    assert "by whom is hidden" in found["cuda:0 memory"].found


def test_devices_are_matched_by_uuid_since_nvml_numbers_them_differently() -> None:
    other = replace(CARD, uuid="2" * 32)
    driver = replace(DRIVER, devices=(other, CARD))
    nvml = Nvml("580", (NvmlDevice(GPU, 79 * GIB, 80 * GIB), NvmlDevice("GPU-3", 0, 80 * GIB)))
    found = health([*doctor.device_findings(driver, ["GPU-2", GPU], nvml, {})])
    assert "cuda:0 memory" not in found
    assert found["cuda:1 memory"] == "error"


def test_a_mig_instance_is_told_with_those_that_are_not_shown() -> None:
    other = "MIG-22222222-2222-2222-2222-222222222222"
    nvml = Nvml("580", (NvmlDevice(MIG, 0, GIB * 9), NvmlDevice(other, 0, GIB * 9)))
    found = {each.about: each for each in doctor.device_findings(DRIVER, [MIG], nvml, {})}
    assert found["cuda:0 MIG"].health == "warning"
    assert other in found["cuda:0 MIG"].found
    undivided = Nvml("580", (NvmlDevice(GPU, 0, 80 * GIB),))
    assert "cuda:0 MIG" not in health([*doctor.device_findings(DRIVER, [GPU], undivided, {})])
    divided = Nvml("580", (NvmlDevice(GPU, 0, 80 * GIB, divided=True),))
    assert health([*doctor.device_findings(DRIVER, [GPU], divided, {})])["cuda:0 MIG"] == "error"


@pytest.mark.parametrize(("mode", "expected"), [(0, None), (2, "error"), (3, "warning")])
def test_a_compute_mode(mode: int, expected: str | None) -> None:
    driver = replace(DRIVER, devices=(replace(CARD, compute_mode=mode),))
    found = health([*doctor.device_findings(driver, [GPU], None, {})])
    assert found.get("cuda:0 compute mode") == expected


def test_whoever_holds_a_devices_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNECTL_LEASES", str(tmp_path))
    locks = DeviceLocks(note="eve's study")

    def said() -> str:
        held = {GPU: holder(GPU)}
        found = {each.about: each for each in doctor.device_findings(DRIVER, [GPU], None, held)}
        return found["cuda:0 lock"].found

    assert said() == "free"
    assert locks.acquire(Device("cuda:0", "cuda", "H100", 1, GPU)) is None
    assert said() == "held by eve's study"
    locks.release_all()
    assert said() == "free"


@pytest.mark.parametrize(("quota", "expected"), [(None, "ok"), (2.5, "ok"), (0.5, "warning")])
def test_cores(quota: float | None, expected: str) -> None:
    cores, threads = doctor.cpu_findings(2, 8, quota, "8")
    assert cores.health == expected
    assert ("cgroups grant" in cores.found) == (quota is not None)
    assert "OMP_NUM_THREADS is 8" in threads.found


def test_cards_are_found_without_a_driver(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030200"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # its sound
        ("0000:02:00.0", "0x8086", "0x030000"),
    ):
        folder = tmp_path / "bus/pci/devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    assert nvidia_cards(tmp_path) == ["0000:01:00.0"]


def test_a_process_that_hangs_with_all_it_started_costs_only_its_time(tmp_path: Path) -> None:
    """Its child holds its output open, and ignores what can be ignored."""
    code = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
time.sleep(600)
"""
    asked = Asked([sys.executable, "-c", code], 2)
    with pytest.raises(NoAnswer, match="no answer within 2 s"):
        asked.answer()
    pid = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_process_that_crashes_says_how() -> None:
    with pytest.raises(NoAnswer, match="killed by SIGSEGV"):
        Asked([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], 60).answer()
    with pytest.raises(NoAnswer, match="status 1; ValueError: no"):
        Asked([sys.executable, "-c", "raise ValueError('no')"], 60).answer()
    assert Asked([sys.executable, "-c", "print('yes')"], 60).answer() == b"yes\n"


def test_a_process_ends_with_whoever_asked_it(tmp_path: Path) -> None:
    """Who is interrupted does not hear the answer."""
    code = f"""
import sys
from prunectl.child import Asked
asked = Asked([sys.executable, "-c", "import time; time.sleep(600)"], 600)
open({str(tmp_path / "pid")!r}, "w").write(str(asked._process.pid))
raise KeyboardInterrupt
"""
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert done.returncode
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
