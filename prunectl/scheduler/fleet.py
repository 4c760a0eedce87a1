"""The devices of a run: leased, drained, given back."""

from __future__ import annotations

from collections.abc import Sequence

from prunectl.errors import StoreError, UnknownName
from prunectl.scheduler.devices import Device
from prunectl.scheduler.leases import Leases
from prunectl.scheduler.ledger import Ledger
from prunectl.scheduler.queue import Queue


class Fleet:
    """Opens a device in the queue while it is ours to use."""

    def __init__(
        self, devices: Sequence[Device], queue: Queue, ledger: Ledger, leases: Leases | None
    ) -> None:
        """Without `leases` devices are shared with whoever has leased them."""
        self.devices = {device.id: device for device in devices}
        self._queue = queue
        self._ledger = ledger
        self._leases = leases
        self._closed: dict[str, tuple[str, str]] = {}
        for device in devices:
            queue.add_device(device.id, device.slots)
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
            self._closed.pop(device.id, None)
            self._queue.open_device(device.id)
            return
        if self.state(device.id)[0] != "leased":
            self._ledger.log("leased", device=device.id, reason=holder)
        self._closed[device.id] = "leased", holder
        self._queue.open_device(device.id, False)

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
