"""Build heartbeats (`store.records.heartbeat`), for the store and as the tick of plain progress."""

from __future__ import annotations

import heapq
import os
import socket
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from typing import Literal

from prunectl.scheduler.dispatcher import Dispatcher
from prunectl.scheduler.eta import Forecast, simulate
from prunectl.scheduler.executors.base import Clock
from prunectl.scheduler.items import Item
from prunectl.spec.ranges import LAST_MOMENT
from prunectl.store.records.heartbeat import (
    DeviceBeat,
    EtaBeat,
    HeartbeatRecord,
    QueueBeat,
    RunningBeat,
)
from prunectl.version import __version__

MOST_STAGES = 100
"""Stages of the queue that the heartbeat lists."""
MOST_TRIALS = 200
FORECAST_PAUSE = 200 * 15e-6
"""Seconds for each stage that is left: a forecast takes some 15 µs a stage, and may take a two-hundredth of the time.
By their number, not by a clock: so a simulated scheduler makes as many forecasts as a real one."""


@dataclass(frozen=True)
class RunIdentity:
    """Which run this is, and who runs it."""

    id: str
    started: float
    """Unix seconds."""
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)


class Heartbeat:
    """Builds heartbeats, with a forecast that is renewed only now and then."""

    def __init__(
        self, run: RunIdentity, dispatcher: Dispatcher, clock: Clock, forecast_every: float
    ) -> None:
        self._run = run
        self._clock = clock
        self._dispatcher = dispatcher
        self._queue = dispatcher.queue
        self._devices = dispatcher.devices
        self._every = forecast_every
        self._forecast: Forecast | None = None
        self._soonest: list[tuple[str, float]] = []
        """Trials that end first, with the seconds until then."""
        self._forecast_due = 0.0
        self._left = 0
        """Stages that the last forecast was about."""
        self._forecast_made = 0.0
        """Unix seconds."""

    def build(self, stopping: Literal["soft", "now"] | None, ended: bool) -> HeartbeatRecord:
        """Return what the scheduler is doing now."""
        now = self._clock.time()
        upcoming = self._queue.upcoming(MOST_STAGES)
        return HeartbeatRecord(
            run=self._run.id,
            pid=self._run.pid,
            host=self._run.host,
            time=now,
            started=self._run.started,
            version=__version__,
            plans=tuple(self._dispatcher.plans.graph.studies),
            stopping=stopping,
            ended=now if ended else None,
            devices=tuple(self._device(name) for name in self._devices.devices),
            running={key: self._running(key) for key in self._dispatcher.running},
            queue=QueueBeat(
                stages=self._queue.counts(),
                next=tuple(upcoming),
                reasons={key: why for key in upcoming if (why := self._queue.reason(key))},
            ),
            eta=self._eta(now, upcoming),
            ingestion=self._dispatcher.log.ingestion.beat(),
            trouble=self._dispatcher.log.trouble(),
        )

    def _device(self, name: str) -> DeviceBeat:
        device = self._devices.devices[name]
        state, reason = self._devices.state(name)
        return DeviceBeat(
            id=name,
            name=device.name,
            uuid=device.uuid,
            kind=device.kind,
            slots=self._queue.slots(name),
            auto=device.auto,
            state=state,
            reason=reason,
            running=tuple(sorted(self._queue.devices[name].running)),
            **asdict(self._devices.usage(name)),
        )

    def _running(self, key: str) -> RunningBeat:
        stage = self._dispatcher.running[key]
        return RunningBeat(
            device=stage.worker.device.id,
            worker=stage.worker.number,
            pid=stage.worker.pid,
            attempt=stage.attempt,
            since=stage.since,
            step=stage.pace.step,
            steps=stage.pace.steps,
            loss=stage.loss,
            score=stage.score,
            eta=self._seconds_left(self._queue.items[key]),
            trials=len(self._queue.items[key].trials),
        )

    def _seconds_left(self, item: Item) -> float | None:
        """Return what is left of a stage that runs, and the whole of another one."""
        plans = self._dispatcher.plans
        node = plans.graph.nodes[item.key]
        stage = self._dispatcher.running.get(item.key)
        if stage is None:
            return plans.step_times.seconds(node)
        return plans.step_times.seconds_left(node, stage.pace, self._clock.monotonic())

    def _eta(self, now: float, upcoming: list[str]) -> EtaBeat:
        started = self._clock.monotonic()
        if started >= self._forecast_due:
            self._forecast = self._simulate()
            self._forecast_made = now
            ends = {} if self._forecast is None else self._forecast.trials
            # A study of 10,000 trials would make every heartbeat 0.4 MB.
            self._soonest = heapq.nsmallest(MOST_TRIALS, ends.items(), key=itemgetter(1))
            # Nothing is dispatched meanwhile: with many thousands of stages it is made more rarely.
            self._forecast_due = started + max(self._every, FORECAST_PAUSE * self._left)
        forecast = self._forecast
        if forecast is None:
            return EtaBeat()
        return EtaBeat(
            end=self._moment(forecast.end),
            trials={trial: self._moment(end) for trial, end in self._soonest},
            stages={key: self._seconds_left(self._queue.items[key]) for key in upcoming},
        )

    def _moment(self, seconds: float) -> float:
        """Return when so many seconds have passed since the forecast was made, Unix seconds."""
        return min(self._forecast_made + seconds, LAST_MOMENT)

    def _simulate(self) -> Forecast | None:
        seconds: dict[str, float] = {}
        self._left = 0
        for item in self._queue.unfinished():
            self._left += 1
            left = self._seconds_left(item)
            if left is None:  # nothing was measured yet
                return None
            seconds[item.key] = left
        open_devices = (name for name, device in self._queue.devices.items() if device.open)
        return simulate(self._queue, seconds, sum(map(self._queue.slots, open_devices)))
