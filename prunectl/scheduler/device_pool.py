"""The devices of a run: leased, drained, released, and how many stages share them."""

from __future__ import annotations

from collections.abc import Iterable

from prunectl.errors import StoreError, UnknownName
from prunectl.scheduler.devices.base import CONTEXT_BYTES, Device, Usage
from prunectl.scheduler.executors.base import Executor
from prunectl.scheduler.items import Workload
from prunectl.scheduler.log import SchedulerLog
from prunectl.scheduler.losses import MOST_FRESH, Losses, Place
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.slots import AutoSlots, FixedSlots, SlotChange, recorded_changes
from prunectl.scheduler.timeouts import Timeouts
from prunectl.scheduler.workers import Worker
from prunectl.store.records.messages import Beat
from prunectl.store.records.scheduler_log import Drained, Leased, Undrained


class DevicePool:
    """Opens a device in the queue while this scheduler may use it."""

    def __init__(
        self, executor: Executor, queue: Queue, log: SchedulerLog, timeouts: Timeouts
    ) -> None:
        self.devices = {device.id: device for device in executor.devices}
        self._executor, self._queue, self._log = executor, queue, log
        self.losses = Losses(timeouts.retries)
        self.given_up: dict[str, str] = {}
        """Devices on which fresh workers kept being lost, and why, in words that follow "given up"."""
        self._lost_at: dict[str, float] = {}
        """Monotonic time of the last loss of a worker that the one before it does not explain, by device."""
        self._closed: dict[str, tuple[str, str]] = {}
        self._short: dict[str, str] = {}
        """Devices on which memory ran out, and how many stages share them since, in words."""
        self._auto: dict[str, AutoSlots] = {}
        self._fixed: dict[str, FixedSlots] = {}
        self._steps: dict[str, dict[str, int]] = {name: {} for name in self.devices}
        """Steps that stages on each device have done, by what workers said of them last."""
        measure = timeouts.measure, timeouts.measure_steps
        for device in self.devices.values():
            slots_for = None
            if device.auto:
                auto = AutoSlots(device.slots, device.kind == "cuda", *measure)
                self._auto[device.id], slots_for = auto, auto.slots_for
            else:
                self._fixed[device.id] = FixedSlots(device.slots)
            queue.add_device(device.id, device.slots, slots_for)
            queue.open_device(device.id, False)

    def usage(self, name: str) -> Usage:
        """Return how busy the device is."""
        return self._executor.usage(self.devices[name])

    def state(self, name: str) -> tuple[str, str]:
        """Return ("open" | "drained" | "leased", on whose behalf or by whom); of an open one why it has fewer slots."""
        return self._closed.get(name, ("open", self._short.get(name, "")))

    @property
    def drained(self) -> list[str]:
        """Return the devices that stages have to leave."""
        return [name for name, (state, _) in self._closed.items() if state == "drained"]

    # whose they are

    def lease_all(self) -> None:
        """Take what is free among the devices that this scheduler neither has nor has drained."""
        for device in self.devices.values():
            if self.state(device.id)[0] != "drained":
                self._lease(device)
        self._executor.refresh_leases()

    def _lease(self, device: Device) -> None:
        try:
            holder = self._executor.lease(device)
        except StoreError as error:
            holder = str(error)
        if holder is None:
            self._start_measuring(device)
            self._closed.pop(device.id, None)
            self._queue.open_device(device.id)
            return
        if self.state(device.id)[0] != "leased":
            self._log.append(Leased(device=device.id, reason=holder))
        self._closed[device.id] = "leased", holder
        self._queue.open_device(device.id, False)

    def drain(self, name: str) -> None:
        """Take no more stages on the device.

        Raises:
            UnknownName: for a device that the run does not have.
        """
        self._known(name)
        self._drain(name, "on request")

    def _drain(self, name: str, reason: str) -> None:
        self._queue.open_device(name, False)
        self._closed[name] = "drained", reason
        self._log.append(Drained(device=name, reason=reason))

    def undrain(self, name: str) -> tuple[str, str]:
        """Use the device again, if it is free. Returns its state.

        Raises:
            UnknownName: for a device that the run does not have.
        """
        device = self._known(name)
        self._closed.pop(name, None)
        self.given_up.pop(name, None)
        self.losses.forget(name)
        self._log.append(Undrained(device=name))
        self._lease(device)
        return self.state(name)

    def _known(self, name: str) -> Device:
        if name not in self.devices:
            raise UnknownName("device", name, self.devices)
        return self.devices[name]

    def release(self, name: str) -> None:
        """Leave a device that has no workers any more to others."""
        self._executor.release(self.devices[name])

    # whether they work

    def lost(self, worker: Worker, stage: str | None, why: str) -> Place:
        """Learn that a worker was lost, `why` in words. Returns what is to blame; a device that is, is drained.

        `stage` is the one that the worker lost its device in; None where that is not known.
        """
        name = worker.device.id
        together = worker.started < self._lost_at.get(name, 0.0)
        if not together:
            self._lost_at[name] = self._executor.clock.monotonic()
        place = self.losses.lost(name, stage, fresh=not worker.proven, together=together)
        if place == "device" and name not in self.given_up:
            many = f"{MOST_FRESH} workers in a row were lost before a stage of theirs was done"
            self.given_up[name] = f"after {many}: {why}"
            self._drain(name, self.given_up[name])
        return place

    @property
    def none_left(self) -> bool:
        """Return whether all devices are given up."""
        return self.given_up.keys() == self.devices.keys()

    # how many stages share them

    def _start_measuring(self, device: Device) -> None:
        """Start measuring how many stages fit in the memory that other processes leave free."""
        auto = self._auto.get(device.id)
        if auto is None or (auto.started and device.id not in self._closed):
            return
        usage = self._executor.usage(device)
        if self._queue.devices[device.id].running:
            return  # what is in use is not that of others
        total = usage.memory_total or device.memory
        free = None if total is None else total - (usage.memory_used or 0)
        auto.start(free, recorded_changes(self._log.history.settled.values(), device))

    def learn(self, name: str, now: float, beat: Beat) -> None:
        """Learn from a worker's beat at `now` (seconds) how many stages of a workload the device has room for."""
        auto = self._auto.get(name)
        if auto is None:
            return
        stages, device = beat.running, self.devices[name]
        workload = self._one_workload(stages)
        # A worker that has one stage at a time takes what it takes whatever else it keeps warm.
        alone = device.slots_per_worker == 1
        sharing = 1 if alone else beat.lanes
        if workload is not None and beat.memory and sharing:
            context = CONTEXT_BYTES if alone and device.kind == "cuda" else 0
            self._record(name, auto.record_memory(workload, beat.memory + context, sharing))
        running = self._queue.devices[name].running
        known = self._steps[name] | {key: stage.step for key, stage in stages.items()}
        steps = {key: step for key in running if (step := known.get(key)) is not None}
        self._steps[name] = steps
        workload = self._one_workload(running) if len(steps) == len(running) else None
        self._record(name, auto.record_steps(now, steps, workload))

    def _one_workload(self, keys: Iterable[str]) -> Workload | None:
        """Return the workload of all these stages; None where they are of several."""
        workloads = {self._queue.items[key].workload for key in keys}
        return workloads.pop() if len(workloads) == 1 else None

    def needs_fresh_worker(self, name: str, workload: Workload) -> bool:
        """Return whether a stage of the workload, which has the device to itself, is the first whose memory is measured
        there: what other workloads left in a worker would be counted with it."""
        auto = self._auto.get(name)
        alone = len(self._queue.devices[name].running) < 2  # it is counted by now
        return auto is not None and auto.by_speed and alone and not auto.memory_known(workload)

    def out_of_memory(self, name: str, workload: Workload, sharing: int) -> bool:
        """Learn that a stage that still counts as running ran out of the device's memory, which `sharing` stages, or
        workers that still hold what one took, had among them. Returns whether fewer of its workload share the device
        from now on."""
        slots = self._auto.get(name) or self._fixed[name]
        running = [item.workload for item in self._queue.devices[name].running.values()]
        change = slots.record_overflow(workload, running.count(workload), sharing)
        if change is not None:
            self._queue.share_by(name, slots.slots_for)
            self._short[name] = f"{change.slots} at a time: {change.reason}"
        self._record(name, change)
        return change is not None

    def _record(self, name: str, change: SlotChange | None) -> None:
        if change is not None:
            self._log.append(change.to_record(self.devices[name]))
