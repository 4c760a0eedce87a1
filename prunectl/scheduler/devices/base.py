"""What a device is, how busy it is, and how devices are named on a command line.

A device has slots: room for one stage each. On the CPU a slot is a worker process with one thread. A CUDA device has
one worker process that hosts all of its slots, a stream each, or a process for each. Names are `cpu` and `cuda:0`,
`cuda:1`, … in CUDA's own numbering, CUDA_VISIBLE_DEVICES included; locks and workers get the UUID, since NVML numbers
devices differently.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from prunectl.errors import UnknownName

Slots = int | Literal["auto"]
SlotsBy = Literal["streams", "processes"]
"""What a slot of a CUDA device is: a stream of one worker, or a worker of its own. Streams share the CUDA context
(0.5 GB) and the data set; processes share nothing, neither Python's lock nor a fault."""
MOST_AUTO_SLOTS = 8
"""Of a CUDA device: one Python thread launches the kernels of all streams."""
CONTEXT_BYTES = 768 << 20
"""Of a worker process on a CUDA device, beside what torch reserves: a context with its loaded kernels takes 0.4 to
0.6 GB."""


@dataclass(frozen=True)
class Device:
    """One CUDA device, or all CPU cores together."""

    id: str
    """`cpu`, `cuda:0`, …"""
    kind: Literal["cpu", "cuda"]
    name: str
    """Model."""
    slots: int
    uuid: str | None = None
    memory: int | None = None
    """Bytes."""
    auto: bool = False
    """`slots` is an upper bound; how many are used is found by measuring (`scheduler.slots`)."""
    slots_by: SlotsBy = "streams"
    """Of a CUDA device; the CPU has processes."""

    @property
    def slots_per_worker(self) -> int:
        """Slots that one worker process hosts."""
        return 1 if self.kind == "cpu" or self.slots_by == "processes" else self.slots

    @property
    def most_workers(self) -> int:
        """Worker processes that it has where it is full."""
        return self.slots // self.slots_per_worker

    def environment(self) -> dict[str, str]:
        """Return the environment variables by which a worker sees this device and no other."""
        return {
            "CUDA_VISIBLE_DEVICES": self.uuid or "",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic cuBLAS; only read at its start
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }


@dataclass(frozen=True)
class Usage:
    """How busy a device is now; None where the system does not report it."""

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
    age: float = 0.0
    """Seconds since it was measured, at most."""


class DeviceLayer(Protocol):
    """What the scheduler asks the system about devices; tests pass a fake one."""

    def devices(self) -> list[Device]:
        """Return all devices, with one slot each but the CPU."""

    def about_cuda(self) -> str:
        """Return why there is no other CUDA device than those, in lines."""

    def usage(self, device: Device) -> Usage:
        """Return how busy the device is, without waiting for a system that does not answer."""

    def close(self) -> None:
        """End what watches the devices."""


def parse(
    text: str, layer: DeviceLayer, slots: Slots | None = None, slots_by: SlotsBy = "streams"
) -> list[Device]:
    """Return the devices that `text` names.

    Args:
        text: `all` (the CUDA devices, or the CPU where there are none), `cpu`, `cuda`, or `cuda:0,cuda:1`.
        slots: overrides the slots of each.
        slots_by: what the slots of CUDA devices are.

    Raises:
        UnknownName: for a device that this host does not have.
    """
    known = {device.id: device for device in layer.devices()}
    cuda = [name for name in known if name.startswith("cuda:")]
    chosen: dict[str, Device] = {}
    for word in (part.strip().lower() for part in text.split(",")):
        names = {"all": cuda or ["cpu"], "cuda": cuda}.get(word, [word])
        for name in names or [word]:
            if name not in known:
                note = layer.about_cuda() if name.startswith("cuda") else ""
                raise UnknownName(
                    "device", name, ["all", *(["cuda"] if cuda else []), *known], note
                )
            chosen[name] = replace(known[name], slots_by=slots_by)
    return [with_slots(device, slots) for device in chosen.values()]


def most_slots(wishes: Iterable[Slots | None]) -> Slots | None:
    """Return the slots that several plans ask for together: the most, and `auto` before any number."""
    asked = [wish for wish in wishes if wish is not None]
    numbers = [wish for wish in asked if wish != "auto"]
    return "auto" if "auto" in asked else max(numbers, default=None)


def with_slots(device: Device, slots: Slots | None) -> Device:
    """Return the device with another number of slots; None changes nothing.

    `auto` leaves the CPU a slot per core, and gives CUDA devices up to `MOST_AUTO_SLOTS`.

    Raises:
        ValueError: for less than one.
    """
    if slots is None:
        return device
    if slots == "auto":
        most = device.slots if device.kind == "cpu" else MOST_AUTO_SLOTS
        return replace(device, slots=most, auto=True)
    if slots < 1:
        raise ValueError(f"a device needs at least one slot, not {slots}")
    return replace(device, slots=slots)
