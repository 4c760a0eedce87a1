"""The CPU as a device: its usable cores, and how busy the host is."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from prunectl.scheduler.devices.base import Device, Usage

PROC, SYS = Path("/proc"), Path("/sys")


class CpuLayer:
    """The CPU as one device."""

    def __init__(self, proc: Path = PROC, sys: Path = SYS) -> None:
        self._proc = proc
        self._sys = sys
        self._asked = False

    def devices(self) -> list[Device]:
        """Return the CPU, with a slot per core that this process may use."""
        cores = usable_cores(self._proc, self._sys)
        return [Device("cpu", "cpu", self._name(), cores, memory=self._memory()[1])]

    def usage(self, device: Device) -> Usage:
        """Return the host's utilisation since the last call, and the memory of the cgroup where it grants less."""
        import psutil  # 20 ms, which `import prunectl.scheduler` need not pay

        percent = psutil.cpu_percent()
        since, self._asked = self._asked, True
        used, total = self._memory()
        return Usage(percent if since else None, used, total)

    def _memory(self) -> tuple[int, int]:
        """Return (used, total) in bytes."""
        import psutil

        host = psutil.virtual_memory()
        total, free = host.total, host.available
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


def usable_cores(proc: Path = PROC, sys: Path = SYS) -> int:
    """Return the physical cores within this process' affinity, at most what its cgroups grant; at least 1.

    Not by loky.cpu_count(only_physical_cores=True): loky 3.7 reads the quota of the root cgroup alone, so the limits
    of a systemd slice or of a Slurm job do not count, and rounds it up, so a quota of 2.5 CPUs would get three
    workers that are throttled. psutil.cpu_count(logical=False) knows neither affinity nor quotas.
    """
    cores = {_siblings(sys, cpu) for cpu in os.sched_getaffinity(0)}
    # Rounded down: with a quota of 2.5 CPUs three busy workers would be throttled, two are not.
    quota = cpu_quota(proc, sys)
    return max(1, len(cores) if quota is None else min(len(cores), int(quota)))


def cpu_quota(proc: Path = PROC, sys: Path = SYS) -> float | None:
    """Return the CPUs that this process' cgroups grant it; None where they set no limit."""
    quotas = (quota for group in _groups(proc, sys, "cpu") for quota in _quota(group))
    return min(quotas, default=None)


def _siblings(sys: Path, cpu: int) -> str:
    path = sys / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    return " ".join(_words(path)) or str(cpu)


def _words(path: Path) -> list[str]:
    """Return the words of a file of the kernel's; none where it is missing or cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []


def _groups(proc: Path, sys: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the cgroups that this process is in, inner ones first: v2's, and v1's of the controller."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = sys / "fs/cgroup" / (controller if controllers else "")
        folder = base / path.lstrip("/")
        yield from (group for group in (folder, *folder.parents) if group.is_relative_to(base))


def _quota(group: Path) -> list[float]:
    """Return the CPUs that the cgroup grants, if it limits them: v2's cpu.max, or v1's CFS quota."""
    v1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    words = _words(group / "cpu.max") or [word for name in v1 for word in _words(group / name)]
    if len(words) != 2 or not words[0].isdigit() or int(words[1]) <= 0:  # "max" and -1 are no limit
        return []
    return [int(words[0]) / int(words[1])]


MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of cgroups of versions 2 and 1: what is granted, what is in use, and the line of memory.stat with the cache of files
that the kernel gives up first."""


def _memory_grants(proc: Path, sys: Path) -> Iterator[tuple[int, int]]:
    """Yield (bytes granted, bytes in use beside the cache of files) of each enclosing cgroup that has a limit."""
    for group in _groups(proc, sys, "memory"):
        for *names, inactive in MEMORY_FILES:
            granted, used, stat = (_words(group / name) for name in (*names, "memory.stat"))
            if granted and granted[0].isdigit() and used and stat:  # "max" is no limit
                cache = dict(zip(stat[::2], stat[1::2], strict=True)).get(inactive, "0")
                yield int(granted[0]), int(used[0]) - int(cache)
