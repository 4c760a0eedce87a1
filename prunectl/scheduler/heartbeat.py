"""The heartbeat: what the scheduler is doing now, as `control/heartbeat.json` and as the tick of plain progress.

run, pid, host, time, started (Unix seconds), version, plans [digest …], stopping (null | soft | now), ended
devices  [{id, name, uuid, kind, slots, auto, state (open | drained | leased), reason, running [key …],
           utilisation, memory_used, memory_total, temperature, power, processes [[pid, bytes] …]}]
running  {key: {device, worker, pid, attempt, since, step, steps, loss, accuracy, eta (seconds), trials (count)}}
queue    {stages {state: count}, next [key …] (those that start next, in order), reasons {key: why not yet}}
eta      {end (Unix seconds, null before the first measurement), trials {id: Unix seconds} (the soonest 200),
          stages {key: seconds} (what the stages of `next` take)}
trouble  what goes wrong without stopping the run, such as a database that somebody keeps open
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from prunectl.scheduler.eta import Forecast, simulate
from prunectl.scheduler.items import Item, State
from prunectl.version import __version__

if TYPE_CHECKING:
    from prunectl.scheduler.scheduler import Scheduler

NEXT = 100
"""Stages of the queue that the heartbeat lists."""
TRIALS = 200
SHARE = 200
"""A forecast may take a two-hundredth of the time."""


@dataclass
class Running:
    """A stage that a worker has."""

    key: str
    device: str
    worker: int
    pid: int
    attempt: int
    since: float
    """Unix seconds."""
    steps: int
    step: int = 0
    loss: float | None = None
    accuracy: float | None = None
    recalled: float | None = None
    """Monotonic time at which a worker that was asked to leave the stage has had its time."""
    first: tuple[float, int] | None = None
    """(monotonic time, step) of the first beat: its speed is measured from there."""

    def beat(self, progress: dict[str, Any]) -> None:
        """Take over what the worker reports."""
        self.step = int(progress.get("step") or 0)
        self.steps = int(progress.get("steps") or self.steps)
        self.loss = progress.get("loss")
        self.accuracy = progress.get("accuracy")
        if self.first is None:
            self.first = time.monotonic(), self.step

    def remaining(self, per_step: float | None) -> float | None:
        """Seconds left, by its own speed once that is known, else by that of its kind."""
        if self.first is not None and self.step > self.first[1]:
            per_step = (time.monotonic() - self.first[0]) / (self.step - self.first[1])
        return None if per_step is None else max(0, self.steps - self.step) * per_step


class Pulse:
    """Builds heartbeats, with a forecast that is renewed only now and then."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._forecast: Forecast | None = None
        self._due = 0.0
        self._wall = 0.0

    def heartbeat(self, scheduler: Scheduler, now: float) -> dict[str, Any]:
        """What the scheduler is doing at Unix time `now`."""
        queue, work = scheduler.queue, scheduler.work
        upcoming = queue.upcoming(NEXT)
        return {
            "run": scheduler.run_id,
            "pid": scheduler.pid,
            "host": scheduler.host,
            "time": now,
            "started": scheduler.started,
            "version": __version__,
            "plans": list(work.graph.studies),
            "stopping": scheduler.stopping,
            "ended": None,
            "devices": [self._device(scheduler, name) for name in scheduler.fleet.devices],
            "running": {key: self._running(scheduler, key) for key in work.running},
            "queue": {
                "stages": queue.counts(),
                "next": upcoming,
                "reasons": {key: reason for key in upcoming if (reason := queue.reason(key))},
            },
            "eta": self._eta(scheduler, now, upcoming),
            "trouble": scheduler.ledger.trouble(),
        }

    def _device(self, scheduler: Scheduler, name: str) -> dict[str, Any]:
        device = scheduler.fleet.devices[name]
        state, reason = scheduler.fleet.state(name)
        usage = asdict(scheduler.layer.usage(device))
        return {
            "id": name,
            "name": device.name,
            "uuid": device.uuid,
            "kind": device.kind,
            "slots": scheduler.queue.width(name),
            "auto": device.auto,
            "state": state,
            "reason": reason,
            "running": sorted(scheduler.queue.places[name].running),
            **usage,
        }

    def _running(self, scheduler: Scheduler, key: str) -> dict[str, Any]:
        work = scheduler.work
        stage = work.running[key]
        node = work.graph.nodes[key]
        return {
            "device": stage.device,
            "worker": stage.worker,
            "pid": stage.pid,
            "attempt": stage.attempt,
            "since": stage.since,
            "step": stage.step,
            "steps": stage.steps,
            "loss": stage.loss,
            "accuracy": stage.accuracy,
            "eta": stage.remaining(work.rates.per_step(node)),
            "trials": len(work.graph.wanted_by[key]),
        }

    def _eta(self, scheduler: Scheduler, now: float, upcoming: list[str]) -> dict[str, Any]:
        started = time.monotonic()
        if started >= self._due:
            self._forecast = self._simulate(scheduler)
            self._wall = now
            # Nothing is dispatched meanwhile: with many thousands of stages it is made more rarely.
            self._due = started + max(self._every, SHARE * (time.monotonic() - started))
        forecast = self._forecast
        if forecast is None:
            return {"end": None, "trials": {}, "stages": {}}
        soonest = sorted(forecast.trials.items(), key=lambda pair: pair[1])[:TRIALS]
        work = scheduler.work
        return {
            "end": self._wall + forecast.end,
            "trials": {trial: self._wall + end for trial, end in soonest},
            "stages": {key: work.rates.seconds(work.graph.nodes[key]) for key in upcoming},
        }

    def _simulate(self, scheduler: Scheduler) -> Forecast | None:
        nodes, rates = scheduler.work.graph.nodes, scheduler.work.rates
        seconds: dict[str, float] = {}
        unknown = False

        def cost(item: Item) -> None:
            nonlocal unknown
            estimate = rates.seconds(nodes[item.key])
            if item.state is State.RUNNING:
                stage = scheduler.work.running.get(item.key)
                estimate = stage.remaining(rates.per_step(nodes[item.key])) if stage else estimate
            unknown = unknown or estimate is None
            seconds[item.key] = estimate or 0.0

        scheduler.queue.visit(cost)
        if unknown:
            return None
        queue = scheduler.queue
        slots = sum(queue.width(name) for name, place in queue.places.items() if place.open)
        return simulate(queue, seconds, slots, seconds)
