"""What is wrong with this host's devices: findings for people, computed from what the driver and NVML say.

Both are asked in processes of their own (`devices.driver`, `devices.nvml_facts`), since a broken driver hangs or
crashes whoever calls it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prunectl.child import Asked, module_command
from prunectl.findings import Finding, Health, ok
from prunectl.scheduler.devices.driver import VISIBLE, Driver, ShownDevice
from prunectl.scheduler.devices.nvml_facts import Holder, Nvml, NvmlDevice
from prunectl.text import plural, size

NVML = module_command("prunectl.scheduler.devices.nvml_facts")
NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE of cuda.h."""
LEAST_FREE = 2 << 30
"""Bytes free on a device, below which stages may find no room: a process's context takes about 0.5 GB, a network of
the papers 0.1 to 1.5."""
MUCH_USED = 0.5
"""Share of a device's memory that others hold, from which it is worth a warning."""
PROHIBITED, EXCLUSIVE = 2, 3
"""CUcomputemode."""


def ask_nvml(seconds: float) -> Asked:
    """Ask NVML, without waiting for the answer."""
    return Asked(NVML, seconds)


def no_answer(about: str, why: str) -> Finding:
    """Return the finding of something that hung or crashed when it was asked."""
    return Finding(
        about,
        "error",
        f"broken: {why}",
        "look for Xid errors in `dmesg`; reset the device or restart the machine",
    )


def driver_findings(
    driver: Driver, cards: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Judge the driver, and which devices it shows. `cards` are NVIDIA's cards in the machine."""
    about, there = "driver", plural(len(cards), "NVIDIA card")
    if not driver.answered:
        yield no_answer(about, driver.trouble)
        return
    if not driver.loaded and not cards:
        yield ok(about, "none, and no NVIDIA card: there is no CUDA device, the CPU is used")
        return
    if not driver.loaded:
        yield Finding(
            about,
            "warning",
            f"{there} in the machine, and {driver.trouble}: the CPU is used",
            "install NVIDIA's driver; in a container, start it with its GPUs (docker: --gpus all)",
        )
        return
    if driver.trouble and driver.error != NO_DEVICE:
        advice = "load the kernel module that belongs to libcuda (`nvidia-smi`, `dmesg`)"
        yield Finding(about, "error", driver.trouble, advice)
        return
    devices = plural(len(driver.devices), "CUDA device")
    shown, visible = (
        f"supports CUDA {cuda_version(driver.cuda)}, shows {devices}",
        VISIBLE in environment,
    )
    if visible:
        shown += f"; {VISIBLE}={environment[VISIBLE]!r} decides which"
    if not driver.devices and cards and not visible:
        advice = "with MIG enabled, create instances; `nvidia-smi` says which cards it sees"
        yield Finding(about, "warning", f"{shown}, with {there} in the machine", advice)
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
    driver: Driver, names: Sequence[str], nvml: Nvml | None, locks: Mapping[str, str | None]
) -> Iterator[Finding]:
    """Judge each CUDA device.

    `names` are the devices' UUIDs with their prefixes, in the driver's order; `locks` says by these who holds a lock.
    """
    known = {each.uuid: each for each in (nvml.devices if nvml else ())}
    for index, (device, uuid) in enumerate(zip(driver.devices, names, strict=True)):
        name = f"cuda:{index}"
        yield ok(
            name, f"{device.name}, {size(device.memory)}, compute capability {_dotted(device)}"
        )
        if uuid in known:
            yield _memory(name, known[uuid])
        yield from _mig(name, uuid, known)
        yield from _compute_mode(name, device)
        holder = locks.get(uuid)
        yield ok(f"{name} lock", f"held by {holder}" if holder else "free")


def _dotted(device: ShownDevice) -> str:
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


def _mig(name: str, uuid: str, known: Mapping[str, NvmlDevice]) -> Iterator[Finding]:
    about = f"{name} MIG"
    if uuid.startswith("MIG-"):
        others = [each for each in known if each.startswith("MIG-") and each != uuid]
        more = f"; there are also {', '.join(others)}" if others else ""
        yield Finding(
            about,
            "warning",
            f"an instance, {uuid}: CUDA shows one to a process, and its load is not reported{more}",
            "to use several, start a `prunectl run` for each, with CUDA_VISIBLE_DEVICES=MIG-… and its own store",
        )
    elif uuid in known and known[uuid].divided:
        found = "divided into instances, of which none is shown"
        advice = "create instances (`nvidia-smi mig -cgi …`), or disable MIG"
        yield Finding(about, "error", found, advice)


def _compute_mode(name: str, device: ShownDevice) -> Iterator[Finding]:
    advice = "`nvidia-smi -c DEFAULT` allows any number of processes"
    if device.compute_mode == PROHIBITED:
        yield Finding(f"{name} compute mode", "error", "prohibited: no process may use it", advice)
    elif device.compute_mode == EXCLUSIVE:
        found = "exclusive to one process: a worker may have it, and not one for each slot (--slots-by processes)"
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
