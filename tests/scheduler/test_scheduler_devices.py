"""Devices without any: fake files of the kernel's, a fake driver, and real locks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from prunectl.errors import StoreError, UnknownName
from prunectl.scheduler.devices import driver
from prunectl.scheduler.devices.base import Device, parse
from prunectl.scheduler.devices.cpu import CpuLayer, usable_cores
from prunectl.scheduler.devices.cuda import CudaLayer
from prunectl.scheduler.devices.driver import Driver, ShownDevice, ask_driver, full_names
from prunectl.scheduler.devices.locks import DeviceLocks
from prunectl.scheduler.devices.torch_build import TorchBuild, torch_build
from prunectl.store.locks import is_held
from tests.support.scheduler_lab import FakeLayer, meminfo

CPU = Device("cpu", "cpu", "fake cpu", 8)
GPUS = [Device(f"cuda:{index}", "cuda", "fake gpu", 1, f"GPU-{index}") for index in range(2)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("all", ["cuda:0", "cuda:1"]),
        ("cuda", ["cuda:0", "cuda:1"]),
        ("cpu", ["cpu"]),
        ("cuda:1,cuda:0", ["cuda:1", "cuda:0"]),
        ("CUDA:1, cpu", ["cuda:1", "cpu"]),
        ("cuda:1,all", ["cuda:1", "cuda:0"]),
    ],
)
def test_devices_by_name(text: str, ids: list[str]) -> None:
    assert [device.id for device in parse(text, FakeLayer([*GPUS, CPU]))] == ids


def test_devices_there_are_not() -> None:
    assert parse("all", FakeLayer([CPU])) == [CPU]
    for text in ("cuda:0", "cuda", "gpu", ""):
        with pytest.raises(UnknownName, match="device"):
            parse(text, FakeLayer([CPU]))


def test_slots_of_devices_and_of_their_workers() -> None:
    gpu, cpu = parse("cuda:0,cpu", FakeLayer([*GPUS, CPU]), slots=3)
    assert (gpu.slots, gpu.slots_per_worker) == (3, 3)
    assert (cpu.slots, cpu.slots_per_worker) == (3, 1), "one process per slot"
    with pytest.raises(ValueError, match="slot"):
        parse("cpu", FakeLayer([CPU]), slots=0)


def test_workers_see_their_device_only() -> None:
    assert GPUS[1].environment()["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert CPU.environment()["CUDA_VISIBLE_DEVICES"] == ""
    assert CPU.environment()["OMP_NUM_THREADS"] == "1"
    assert CPU.environment()["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_cores_are_physical_and_within_the_cgroups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    topology = "devices/system/cpu/cpu{}/topology/thread_siblings_list"
    sys_folder = write(
        tmp_path / "sys", {topology.format(i): f"{i % 4},{i % 4 + 4}" for i in range(8)}
    )
    proc = write(tmp_path / "proc", {"self/cgroup": "0::/user/job\n"})
    assert usable_cores(proc, sys_folder) == 4
    write(sys_folder, {"fs/cgroup/user/job/cpu.max": "max 100000"})
    assert usable_cores(proc, sys_folder) == 4
    write(sys_folder, {"fs/cgroup/user/cpu.max": "250000 100000"})
    assert usable_cores(proc, sys_folder) == 2, "an outer group's limit counts too"
    write(sys_folder, {"fs/cgroup/user/job/cpu.max": "50000 100000"})
    assert usable_cores(proc, sys_folder) == 1
    first = write(tmp_path / "v1", {"self/cgroup": "4:cpu,cpuacct:/job\n1:name=systemd:/x\n"})
    quota = {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}
    other = write(
        tmp_path / "sys1", {f"fs/cgroup/cpu/job/{name}": text for name, text in quota.items()}
    )
    assert usable_cores(first, other) == 3
    assert usable_cores(tmp_path / "none", tmp_path / "none") == 8


def test_cpu_usage_is_measured_between_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    proc = write(
        tmp_path,
        {
            "stat": "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1",
            "meminfo": meminfo(1000, 250),
            "cpuinfo": "processor: 0\nmodel name\t: Fast One\n",
        },
    )
    layer = CpuLayer(proc)
    (device,) = layer.devices()
    assert device.name == "Fast One"
    assert layer.usage(device).utilisation is None
    write(proc, {"stat": "cpu  150 0 125 825 0 0 0 0 0 0\n"})
    usage = layer.usage(device)
    assert usage.utilisation == 75
    assert (usage.memory_used, usage.memory_total) == (768000, 1024000)


class FakeDriver:
    """Shows the boards and MIG instances that CUDA_VISIBLE_DEVICES names, up to the first unknown name."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked = 0

    def __call__(self, environment: Mapping[str, str]) -> Driver:
        self.asked += 1
        wanted = environment.get("CUDA_VISIBLE_DEVICES", ",".join(self.names)).split(",")
        shown = list(takewhile(self.names.__contains__, wanted))
        slices = [name for name in shown if name.startswith("MIG")]
        shown = slices[:1] or shown  # a process sees only one
        return Driver(tuple(ShownDevice(name[4:].replace("-", ""), name[:3], 50) for name in shown))


UUIDS = [f"{index:08x}-0000-0000-0000-000000000000" for index in range(3)]


def test_cuda_devices_keep_cudas_order_and_are_known_by_uuid() -> None:
    driver = FakeDriver(f"GPU-{UUIDS[2]}", f"GPU-{UUIDS[1]}")
    first, second = CudaLayer({}, driver).devices()
    assert (first.id, first.name, first.uuid) == ("cuda:0", "GPU", f"GPU-{UUIDS[2]}")
    assert (second.id, second.uuid, second.memory) == ("cuda:1", f"GPU-{UUIDS[1]}", 50)
    assert driver.asked == 2, "one look at their names is enough for any number of boards"
    assert CudaLayer({}, FakeDriver()).devices() == []


def test_a_mig_instance_is_known_by_the_name_that_shows_it() -> None:
    driver = FakeDriver(f"MIG-{UUIDS[0]}", f"MIG-{UUIDS[1]}")
    (only,) = CudaLayer({}, driver).devices()
    assert only.uuid == f"MIG-{UUIDS[0]}"
    assert driver(only.environment()).devices, "which is what its workers get"


def test_boards_behind_a_mig_instance_keep_their_names() -> None:
    driver = FakeDriver(f"GPU-{UUIDS[0]}", f"MIG-{UUIDS[1]}", f"GPU-{UUIDS[2]}")
    shown = tuple(ShownDevice(each.replace("-", ""), "", 1) for each in UUIDS)
    assert full_names({}, shown, driver) == list(driver.names)


def test_a_driver_that_hangs_by_now_costs_one_wait_and_not_one_for_each_device() -> None:
    asked = []

    def hangs(environment: Mapping[str, str]) -> Driver:
        asked.append(environment["CUDA_VISIBLE_DEVICES"])
        return Driver(trouble="no answer within 60 s", answered=False)

    shown = tuple(ShownDevice(each.replace("-", ""), "", 1) for each in UUIDS)
    assert full_names({}, shown, hangs) == [f"GPU-{each}" for each in UUIDS]
    assert len(asked) == 1


def test_the_driver_is_asked_with_our_environment() -> None:
    hidden = ask_driver({**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert hidden.devices == ()
    assert "driver" in hidden.trouble


HOLD = (
    "import sys; from pathlib import Path\n"
    "from prunectl.scheduler.devices.locks import DeviceLocks\n"
    "from prunectl.scheduler.devices.base import Device\n"
    "locks = DeviceLocks(Path(sys.argv[1]), note='somebody')\n"
    "print(locks.acquire(Device('cuda:0', 'cuda', 'gpu', 1, 'GPU-0')), flush=True)\n"
    "sys.stdin.read()\n"
)


def test_a_device_is_one_schedulers_until_it_dies(tmp_path: Path) -> None:
    where = tmp_path / "shared"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(where)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout
    assert other.stdout.readline() == "None\n"
    mine = DeviceLocks(where)
    assert "somebody" in (mine.acquire(GPUS[0]) or "")
    assert mine.acquire(GPUS[1]) is None
    assert mine.acquire(CPU) is None, "the CPU is not locked"
    assert is_held(where / "GPU-0.lock")
    os.kill(other.pid, 9)
    other.communicate()
    assert not is_held(where / "GPU-0.lock")
    assert mine.acquire(GPUS[0]) is None
    mine.release(GPUS[0])
    assert not is_held(where / "GPU-0.lock")
    mine.release_all()
    assert not is_held(where / "GPU-1.lock")


def test_the_folder_of_locks_is_for_everybody(tmp_path: Path) -> None:
    where = tmp_path / "shared"
    before = os.umask(0o077)
    try:
        locks = DeviceLocks(where)
        locks.acquire(GPUS[0])
    finally:
        os.umask(before)
    assert where.stat().st_mode & 0o7777 == 0o1777
    assert (where / "GPU-0.lock").stat().st_mode & 0o777 == 0o666
    locks.release_all()


def test_a_lock_survives_the_removal_of_its_file(tmp_path: Path) -> None:
    locks = DeviceLocks(tmp_path)
    locks.acquire(GPUS[0])
    (tmp_path / "GPU-0.lock").unlink()
    assert not is_held(tmp_path / "GPU-0.lock")
    locks.refresh()
    assert is_held(tmp_path / "GPU-0.lock")
    locks.release_all()


def test_a_lock_is_never_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    where = tmp_path / "shared"
    where.mkdir()
    (where / "GPU-0.lock").symlink_to(victim)
    locks = DeviceLocks(where)
    with pytest.raises(StoreError):
        locks.acquire(GPUS[0])
    assert victim.read_text() == "precious"
    (tmp_path / "link").symlink_to(where)
    with pytest.raises(StoreError):
        DeviceLocks(tmp_path / "link").acquire(GPUS[1])


@pytest.mark.parametrize(
    ("code", "answered", "says"),
    [
        ("raise SystemExit(3)", False, "exit status 3"),
        ("print('no JSON')", False, "malformed"),
        ("import time; time.sleep(60)", False, "no answer within 0.5 s"),
    ],
)
def test_a_driver_that_crashes_or_hangs_is_told(
    monkeypatch: pytest.MonkeyPatch, code: str, answered: bool, says: str
) -> None:
    monkeypatch.setattr(driver, "_ENUMERATE", code)
    found = driver.ask_driver(os.environ, 0.5 if "sleep" in code else 20)
    assert (found.devices, found.answered) == ((), answered)
    assert says in found.trouble


def test_a_driver_that_no_process_can_ask_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    found = driver.ask_driver(os.environ)
    assert found.answered
    assert "no process could be started" in found.trouble


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__version__ = '2.14.1+cpu'\ncuda: Optional[str] = None\n", ("2.14.1+cpu", None)),
        ("__version__ = '2.14.1'\ncuda: Optional[str] = '13.0'\n", ("2.14.1", "13.0")),
        ("version = 2\n", None),
        (None, None),
    ],
)
def test_torch_tells_for_what_it_was_built(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    expected: tuple[str, str | None] | None,
) -> None:
    if text is not None:
        (tmp_path / "version.py").write_text(text)
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    assert torch_build() == (None if expected is None else TorchBuild(*expected))


def test_torch_that_is_not_installed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert torch_build() is None
