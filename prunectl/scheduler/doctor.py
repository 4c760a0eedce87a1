"""What is wrong with this host's devices: findings for people, computed from what the driver and NVML say.

Both are asked in processes of their own (`devices.probe`), since a broken driver hangs or crashes whoever calls it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

from prunectl.child import Asked, module_command
from prunectl.findings import Finding, Health, ok
from prunectl.scheduler.devices.probe import (
    NO_DEVICE,
    SUCCESS,
    Driver,
    DriverDevice,
    Holder,
    Nvml,
    NvmlDevice,
)
from prunectl.text import plural, size

PROBE = module_command("prunectl.scheduler.devices.probe")
LEAST_FREE = 2 << 30
"""Bytes free on a device, below which stages may find no room: a process's context takes about 0.5 GB, a network of
the papers 0.1 to 1.5."""
MUCH_USED = 0.5
"""Share of a device's memory that others hold, from which it is worth a warning."""
PROHIBITED, EXCLUSIVE = 2, 3
"""CUcomputemode."""


def ask(what: str, seconds: float) -> Asked:
    """Ask the ``driver`` or ``nvml``, without waiting for the answer."""
    return Asked([*PROBE, what], seconds)


def no_answer(about: str, why: str) -> Finding:
    """Return the finding of something that hung or crashed when it was asked."""
    return Finding(
        about,
        "error",
        f"broken: {why}",
        "look for Xid errors in `dmesg`; reset the device or restart the machine",
    )


def driver_findings(driver: Driver) -> Iterator[Finding]:
    """Judge the driver, and which devices it shows."""
    about, cards = "driver", plural(len(driver.cards), "NVIDIA card")
    if not driver.found and not driver.cards:
        yield ok(about, "none, and no NVIDIA card: there is no CUDA device, the CPU is used")
        return
    if not driver.found:
        yield Finding(
            about,
            "warning",
            f"{cards} in the machine, but no driver ({driver.message}): the CPU is used",
            "install NVIDIA's driver; in a container, start it with its GPUs (docker: --gpus all)",
        )
        return
    if driver.error not in (SUCCESS, NO_DEVICE):
        yield Finding(
            about,
            "error",
            f"cannot start: error {driver.error}, {driver.message}",
            "load the kernel module that belongs to libcuda (`nvidia-smi`, `dmesg`)",
        )
        return
    devices = plural(len(driver.devices), "CUDA device")
    shown = f"supports CUDA {cuda_version(driver.cuda)}, shows {devices}"
    if driver.visible is not None:
        shown += f"; CUDA_VISIBLE_DEVICES={driver.visible!r} decides which"
    if not driver.devices and driver.cards and driver.visible is None:
        advice = "with MIG enabled, create instances; `nvidia-smi` says which cards it sees"
        yield Finding(about, "warning", f"{shown}, with {cards} in the machine", advice)
        return
    yield ok(about, shown)


def cuda_version(number: int) -> str:
    """Return CUDA's version of its number: 13.0 of 13000."""
    return f"{number // 1000}.{number % 1000 // 10}"


def nvml_findings(nvml: Nvml, devices: int) -> Iterator[Finding]:
    """Judge NVML, on a host that shows so many CUDA devices."""
    if nvml.missing and devices:
        yield Finding(
            "NVML",
            "warning",
            f"missing: {nvml.missing}",
            "devices work, but their load, their memory and who holds it are not seen, and `--slots auto` cannot keep "
            "clear of others; in a container, NVIDIA_DRIVER_CAPABILITIES=compute,utility brings it",
        )
    elif nvml.missing:
        yield ok("NVML", f"missing ({nvml.missing}), and not needed without a CUDA device")
    elif nvml.error:
        advice = "reset the device (`nvidia-smi --gpu-reset`) or restart the machine"
        yield Finding("NVML", "error", f"does not answer: {nvml.error}", advice)
    else:
        yield ok("NVML", f"works, driver {nvml.driver}")


def device_findings(
    driver: Driver, nvml: Nvml | None, locks: Mapping[str, str | None]
) -> Iterator[Finding]:
    """Judge each CUDA device. `locks` says who holds a device's lock, by UUID with its prefix."""
    known = {_hex(each.uuid): each for each in (nvml.devices if nvml else ())}
    for index, device in enumerate(driver.devices):
        seen = known.get(device.uuid)
        name = f"cuda:{index}"
        yield ok(
            name, f"{device.name}, {size(device.memory)}, compute capability {_dotted(device)}"
        )
        if seen is not None:
            yield _memory(name, seen)
            yield from _mig(name, seen)
        yield from _compute_mode(name, device)
        prefixed = [f"{prefix}-{uuid.UUID(hex=device.uuid)}" for prefix in ("GPU", "MIG")]
        holders = [said for each in prefixed if (said := locks.get(each))]
        yield ok(f"{name} lock", f"held by {holders[0]}" if holders else "free")
    if len(driver.devices) == 1 and nvml is not None and driver.visible is None:
        yield from _other_instances(driver.devices[0], nvml)


def uuids(driver: Driver) -> list[str]:
    """List the UUIDs that devices may have, with their prefixes: the driver's own has none."""
    names = (uuid.UUID(hex=device.uuid) for device in driver.devices)
    return [f"{prefix}-{name}" for name in names for prefix in ("GPU", "MIG")]


def _hex(text: str) -> str:
    return text.partition("-")[2].replace("-", "").lower()


def _dotted(device: DriverDevice) -> str:
    return ".".join(map(str, device.capability))


def _memory(name: str, device: NvmlDevice) -> Finding:
    """Judge how much of a device's memory is free, and say who holds the rest."""
    about = f"{name} memory"
    if device.used is None or not device.total:
        return ok(about, "not reported")
    free = device.total - device.used
    found = f"{size(free)} of {size(device.total)} free"
    if device.holders:
        found += f"; held by {', '.join(map(_holder, device.holders))}"
    elif device.used > LEAST_FREE:
        found += "; by whom is hidden, as in a container"
    health: Health = "ok"
    if free < LEAST_FREE:
        health = "error"
    elif device.used > MUCH_USED * device.total:
        health = "warning"
    advice = "end what holds it, or name other devices (--devices)"
    return Finding(about, health, found, "" if health == "ok" else advice)


def _holder(holder: Holder) -> str:
    memory = f", {size(holder.memory)}" if holder.memory else ""
    return f"pid {holder.pid} ({holder.name or 'not of this container'}{memory})"


def _mig(name: str, device: NvmlDevice) -> Iterator[Finding]:
    if device.uuid.startswith("MIG-"):
        yield Finding(
            f"{name} MIG",
            "warning",
            f"an instance, {device.uuid}: CUDA shows one to a process, and its load is not reported",
            "to use several, start a `prunectl run` for each, with CUDA_VISIBLE_DEVICES=MIG-… and its own store",
        )
    elif device.mig:
        yield Finding(
            f"{name} MIG",
            "error",
            "divided into instances, of which none is shown",
            "create instances (`nvidia-smi mig -cgi …`), or disable MIG",
        )


def _other_instances(device: DriverDevice, nvml: Nvml) -> Iterator[Finding]:
    """Name the MIG instances beside the one that CUDA shows."""
    others = [
        each.uuid
        for each in nvml.devices
        if each.uuid.startswith("MIG-") and _hex(each.uuid) != device.uuid
    ]
    if others:
        yield ok("MIG", f"instances that are not shown: {', '.join(others)}")


def _compute_mode(name: str, device: DriverDevice) -> Iterator[Finding]:
    advice = "`nvidia-smi -c DEFAULT` allows any number of processes"
    if device.compute_mode == PROHIBITED:
        yield Finding(f"{name} compute mode", "error", "prohibited: no process may use it", advice)
    elif device.compute_mode == EXCLUSIVE:
        found = "exclusive to one process: its slots may share a process, and not be one each"
        yield Finding(f"{name} compute mode", "warning", found, f"{advice}, and so does MPS")


def cpu_findings(
    cores: int, logical: int, quota: float | None, threads: str | None
) -> Iterator[Finding]:
    """Judge the cores that a run would use.

    Args:
        cores: physical ones within this process's affinity and quota.
        logical: CPUs of the host, as Linux counts them.
        quota: CPUs that cgroups grant; None without a limit.
        threads: OMP_NUM_THREADS.
    """
    found = f"{plural(cores, 'core')} to be used, of {logical} logical ones"
    found += "" if quota is None else f"; cgroups grant {quota:g}"
    if quota is not None and quota < 1:
        advice = "every worker is throttled: ask for a whole CPU at least"
        yield Finding("cores", "warning", found, advice)
    else:
        yield ok("cores", found)
    own = "not set" if threads is None else f"{threads}, which workers do not follow"
    yield ok("threads", f"one for each worker; OMP_NUM_THREADS is {own}")
