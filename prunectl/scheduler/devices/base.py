"""Devices that stages run on, CPU cores and CUDA devices: which there are, and how busy they are.

A device has slots. On the CPU a slot is a worker process with one thread, one per physical core that this
process may use. A CUDA device has one worker process with a lane per slot. Names are `cpu` and `cuda:0`,
`cuda:1`, … in CUDA's own numbering, CUDA_VISIBLE_DEVICES included; what is leased and passed to workers is
the UUID, since NVML numbers devices differently.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from prunectl.errors import UnknownName

Slots = int | Literal["auto"]
MOST_LANES = 8
"""Of a CUDA device: one thread feeds them all."""


@dataclass(frozen=True)
class Device:
    """One device, or all CPU cores together."""

    id: str
    """`cpu`, `cuda:0`, …"""
    kind: Literal["cpu", "cuda"]
    name: str
    slots: int
    uuid: str | None = None
    memory: int | None = None
    """Bytes."""
    auto: bool = False
    """Slots are the most there may be: how many are used is found by measuring (`capacity`)."""

    @property
    def lanes(self) -> int:
        """Slots of one worker process."""
        return 1 if self.kind == "cpu" else self.slots

    def environment(self) -> dict[str, str]:
        """What a worker's environment needs to see this device and nothing else."""
        return {
            "CUDA_VISIBLE_DEVICES": self.uuid or "",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic cuBLAS; only read at its start
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }


@dataclass(frozen=True)
class Usage:
    """How busy a device is now; None where the system does not tell."""

    utilisation: float | None = None
    """Percent."""
    memory_used: int | None = None
    """Bytes."""
    memory_total: int | None = None
    """Bytes."""
    temperature: float | None = None
    """°C."""
    power: float | None = None
    """Watt."""
    processes: tuple[tuple[int, int], ...] = ()
    """(pid, bytes); empty where containers hide them."""


class DeviceLayer(Protocol):
    """What the scheduler asks about devices; tests give it a fake one."""

    def devices(self) -> list[Device]:
        """All devices, with one slot each but the CPU."""

    def usage(self, device: Device) -> Usage:
        """How busy the device is."""


class CpuLayer:
    """The CPU as one device."""

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self._proc = proc
        self._sys = sys
        self._ticks: tuple[int, int] | None = None

    def devices(self) -> list[Device]:
        """The CPU, with a slot per core this process may use."""
        cores = usable_cores(self._proc, self._sys)
        return [Device("cpu", "cpu", self._name(), cores, memory=self._memory()[1])]

    def usage(self, device: Device) -> Usage:
        """Of the whole host since the last call; memory of what the cgroup grants, where that is less."""
        used, total = self._memory()
        return Usage(self._utilisation(), used, total)

    def _utilisation(self) -> float | None:
        try:
            fields = (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]
            values = [int(field) for field in fields]
        except (OSError, ValueError):
            return None
        now = sum(values), values[3] + values[4]  # idle and iowait
        before, self._ticks = self._ticks, now
        if before is None or now[0] <= before[0]:
            return None
        return 100 * (1 - (now[1] - before[1]) / (now[0] - before[0]))

    def _memory(self) -> tuple[int | None, int | None]:
        """(used, total), bytes."""
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
        except OSError:
            return None, None
        pairs = (line.split(":", 1) for line in lines if ":" in line)
        host = {name: int(value.split()[0]) * 1024 for name, value in pairs if value.split()}
        if "MemTotal" not in host or "MemAvailable" not in host:
            return None, host.get("MemTotal")
        total, free = host["MemTotal"], host["MemAvailable"]
        for granted, used in _memory_grants(self._proc, self._sys):
            total, free = min(total, granted), min(free, max(0, granted - used))
        return total - free, total

    def _name(self) -> str:
        try:
            lines = (self._proc / "cpuinfo").read_text().splitlines()
        except OSError:
            lines = []
        names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())


def usable_cores(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> int:
    """Physical cores within this process' affinity, at most what its cgroups grant; at least 1."""
    cpus = os.sched_getaffinity(0)
    cores = {_siblings(sys, cpu) for cpu in cpus}
    quota = min(_quotas(proc, sys), default=float("inf"))
    return max(1, min(len(cores), int(quota) if quota != float("inf") else len(cores)))


MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of cgroups of versions 2 and 1: what is granted, what is in use, and the line of memory.stat that gives way."""


def _memory_grants(proc: Path, sys: Path) -> list[tuple[int, int]]:
    """(bytes granted, bytes in use beside the cache of files) of each enclosing cgroup."""
    found = []
    for group in _groups(proc, sys, "memory"):
        for most, current, inactive in MEMORY_FILES:
            try:
                granted = int((group / most).read_text())  # "max" is no limit
                used = int((group / current).read_text())
                stat = (group / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):
                continue
            cache = sum(int(line.split()[1]) for line in stat if line.startswith(f"{inactive} "))
            found.append((granted, used - cache))
    return found


def _siblings(sys: Path, cpu: int) -> str:
    topology = sys / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        return topology.read_text().strip()
    except OSError:
        return str(cpu)


def _quotas(proc: Path, sys: Path) -> list[float]:
    """CPUs that each enclosing cgroup grants: v2's cpu.max, v1's cfs quota."""
    return [quota for group in _groups(proc, sys, "cpu") for quota in _quota(group)]


def _groups(proc: Path, sys: Path, controller: str) -> list[Path]:
    """Folders of the cgroups that this process is in, inner ones first: v2's, and v1's of the controller."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = sys / "fs/cgroup"
        if controllers:
            if controller not in controllers.split(","):
                continue
            base = base / controller
        folder = base / path.lstrip("/")
        for level in [folder, *folder.parents]:
            if level == base.parent:
                break
            found.append(level)
    return found


def _quota(folder: Path) -> list[float]:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return []
    return [int(quota) / int(period)] if quota.isdigit() and int(period) > 0 else []


class SystemLayer:
    """The CPU and the CUDA devices of this host."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        from prunectl.scheduler.devices.cuda import CudaLayer

        self._cpu = CpuLayer()
        self._cuda = CudaLayer(environment)

    def devices(self) -> list[Device]:
        """CUDA devices in CUDA's order, then the CPU."""
        return [*self._cuda.devices(), *self._cpu.devices()]

    def usage(self, device: Device) -> Usage:
        """How busy the device is."""
        return (self._cuda if device.kind == "cuda" else self._cpu).usage(device)


def parse(text: str, layer: DeviceLayer | None = None, slots: Slots | None = None) -> list[Device]:
    """Devices by name: `all` (the CUDA devices, or the CPU where there are none), `cpu`, `cuda`,
    `cuda:0,cuda:1`.

    `slots` overrides the slots of each. Raises UnknownName for a device this host does not have.
    """
    layer = SystemLayer() if layer is None else layer
    there = {device.id: device for device in layer.devices()}
    cuda = [name for name in there if name.startswith("cuda:")]
    chosen: dict[str, Device] = {}
    for word in (part.strip().lower() for part in text.split(",")):
        names = {"all": cuda or ["cpu"], "cuda": cuda}.get(word, [word])
        for name in names or [word]:
            if name not in there:
                raise UnknownName("device", name, ["all", "cuda", *there])
            chosen[name] = there[name]
    return [with_slots(device, slots) for device in chosen.values()]


def most(wishes: Iterable[Slots | None]) -> Slots | None:
    """What several plans ask for together: the most, and `auto` before any number."""
    asked = [wish for wish in wishes if wish is not None]
    numbers = [wish for wish in asked if wish != "auto"]
    return "auto" if "auto" in asked else max(numbers, default=None)


def with_slots(device: Device, slots: Slots | None) -> Device:
    """The same device with another number of slots, if one is given. `auto` leaves the CPU a slot per core, and
    gives CUDA devices up to `MOST_LANES`.

    Raises ValueError for less than one.
    """
    from dataclasses import replace

    if slots is None:
        return device
    if slots == "auto":
        most = device.slots if device.kind == "cpu" else MOST_LANES
        return replace(device, slots=most, auto=True)
    if slots < 1:
        raise ValueError(f"a device needs at least one slot, not {slots}")
    return replace(device, slots=slots)
