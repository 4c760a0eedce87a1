"""The devices of a run: leased, drained, given back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

from prunectl.errors import StoreError, UnknownName
from prunectl.scheduler.auto_slots import Capacity, Change, settled
from prunectl.scheduler.devices.base import Device, DeviceLayer
from prunectl.scheduler.devices.locks import Leases
from prunectl.scheduler.eta import Kind
from prunectl.scheduler.log import Ledger
from prunectl.scheduler.queue import Queue


class Fleet:
    """Opens a device in the queue while it is ours to use."""

    def __init__(
        self,
        devices: Sequence[Device],
        queue: Queue,
        ledger: Ledger,
        leases: Leases | None,
        layer: DeviceLayer,
        measure: tuple[float, int] = (20.0, 1000),
    ) -> None:
        """Without `leases` devices are shared with whoever has leased them. `measure` is how long a number of lanes
        is measured (seconds, steps) where it is found so."""
        self.devices = {device.id: device for device in devices}
        self._queue = queue
        self._ledger = ledger
        self._leases = leases
        self._layer = layer
        self._enough = measure
        self._closed: dict[str, tuple[str, str]] = {}
        self._capacities: dict[str, Capacity] = {}
        for device in devices:
            lanes = partial(self._lanes, device.id) if device.auto else None
            queue.add_device(device.id, device.slots, lanes)
            queue.open_device(device.id, False)

    def state(self, name: str) -> tuple[str, str]:
        """("open" | "drained" | "leased", on whose behalf or by whom)."""
        return self._closed.get(name, ("open", ""))

    @property
    def drained(self) -> list[str]:
        """Devices that stages have to leave."""
        return [name for name, (state, _) in self._closed.items() if state == "drained"]

    def lease_all(self) -> None:
        """Lease what is free among the devices that are neither leased nor drained."""
        for device in self.devices.values():
            if self.state(device.id)[0] != "drained":
                self._lease(device)
        if self._leases is not None:
            self._leases.refresh()

    def _lease(self, device: Device) -> None:
        try:
            holder = self._leases.take(device) if self._leases is not None else None
        except StoreError as error:
            holder = str(error)
        if holder is None:
            if device.auto and (device.id in self._closed or device.id not in self._capacities):
                self._weigh_up(device)
            self._closed.pop(device.id, None)
            self._queue.open_device(device.id)
            return
        if self.state(device.id)[0] != "leased":
            self._ledger.log("leased", device=device.id, reason=holder)
        self._closed[device.id] = "leased", holder
        self._queue.open_device(device.id, False)

    def _weigh_up(self, device: Device) -> None:
        """Begin to find out how many stages fit, with what others leave of the device and what is known of it."""
        usage = self._layer.usage(device)
        if self._queue.places[device.id].running:
            return  # what is in use is not that of others
        known = settled(self._ledger.history.settled.values(), device.name)
        self._capacities[device.id] = Capacity(device, usage, known, *self._enough)

    def _lanes(self, name: str, kind: Hashable) -> int:
        capacity = self._capacities.get(name)
        return 1 if capacity is None else capacity.lanes(kind)

    def measure(
        self, name: str, now: float, beat: dict[str, Any], kind_of: Callable[[str], Kind]
    ) -> None:
        """Learn from a worker's beat at `now` (seconds) how many stages of a kind the device has room for."""
        capacity = self._capacities.get(name)
        if capacity is None:
            return
        stages: dict[str, dict[str, Any]] = beat.get("running") or {}
        kinds = {kind_of(key) for key in stages}
        kind = kinds.pop() if len(kinds) == 1 else None
        # A worker on the CPU has one stage at a time, and takes what it takes whatever else it keeps warm.
        among = beat.get("lanes") if capacity.measures else 1
        if kind is not None and beat.get("memory") and among:
            self._tell(name, capacity.weigh(kind, beat["memory"], among))
        steps = {key: int(stage["step"]) for key, stage in stages.items() if "step" in stage}
        whole = steps.keys() == stages.keys() == self._queue.places[name].running
        self._tell(name, capacity.beat(now, steps, kind if whole else None))

    def needs_fresh_worker(self, name: str, kind: Kind) -> bool:
        """Whether a stage of the kind, which has the device to itself, is the first whose memory is measured there:
        what other kinds left in a worker would be counted with it."""
        capacity = self._capacities.get(name)
        alone = len(self._queue.places[name].running) < 2  # it is counted by now
        return capacity is not None and capacity.measures and alone and not capacity.weighed(kind)

    def overflowed(self, name: str, kind: Kind) -> None:
        """A stage that still counts as running ran out of the device's memory."""
        if (capacity := self._capacities.get(name)) is not None:
            running = [self._queue.items[key].kind for key in self._queue.places[name].running]
            self._tell(name, capacity.overflowed(kind, running.count(kind), len(running)))

    def _tell(self, name: str, change: Change | None) -> None:
        if change is not None:
            model = self.devices[name].name
            self._ledger.log("lanes", device=name, device_name=model, **change.to_json())

    def drain(self, name: str) -> None:
        """Take no more stages on the device.

        Raises UnknownName for a device that the run does not have.
        """
        self._known(name)
        self._queue.open_device(name, False)
        self._closed[name] = "drained", "on request"
        self._ledger.log("drained", device=name, reason="on request")

    def undrain(self, name: str) -> tuple[str, str]:
        """Use the device again, if it is free; its state.

        Raises UnknownName for a device that the run does not have.
        """
        device = self._known(name)
        self._closed.pop(name, None)
        self._ledger.log("undrained", device=name)
        self._lease(device)
        return self.state(name)

    def _known(self, name: str) -> Device:
        if name not in self.devices:
            raise UnknownName("device", name, self.devices)
        return self.devices[name]

    def give_back(self, name: str) -> None:
        """End the lease of a device that has no workers any more."""
        if self._leases is not None:
            self._leases.give_back(self.devices[name])

    def close(self) -> None:
        """End all leases."""
        if self._leases is not None:
            self._leases.close()
