"""Progress of plans in the foreground: lines on stderr that read alike on a terminal and in a log.

    18:18:10   95.2 %  ETA 3m04   done 20/21  weight-rewind 0.75 · seed 0  82.00 %  (12s)

A line for each event of interest (a stage done or failed, a device taken, a request), and one after `QUIET_SECONDS`
without any, since a stage may take hours.
The percentage is of the optimizer steps of all stages of the command's own plans. What else the scheduler runs has
lines in the command that is the scheduler, by the plan's name, and none in one that waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from prunectl.cli.support.terminal import narrate
from prunectl.spec.study import Study
from prunectl.store.narration import describe
from prunectl.store.records.base import LogRecord
from prunectl.store.records.heartbeat import EtaBeat, HeartbeatRecord, RunningBeat
from prunectl.store.records.scheduler_log import (
    Answered,
    Blocked,
    Leased,
    Queued,
    SlotsSet,
    StageDone,
    StageFailed,
    StageNoted,
    StudyStopped,
    WorkerEnded,
)
from prunectl.text import duration

QUIET_SECONDS = 30.0
"""Time without a line after which one is written on how far the run is."""

SHOWN = 3
"""Running stages that such a line names; a machine may have dozens."""


class Progress:
    """Writes the lines."""

    def __init__(
        self,
        plans: Sequence[Study],
        done: set[str],
        read_plan: Callable[[str], Study] | None = None,
    ) -> None:
        """`done` has the keys of the stages that were done before.

        `read_plan` reads a plan, by its digest, that the scheduler takes on beside `plans`, to name its stages.
        """
        self._named = {plan.digest for plan in plans}
        self._last = {trial.id: trial.path[-1] for plan in plans for trial in plan.trials}
        """The last stage of each trial."""
        self._steps: dict[str, int] = {}
        self._names: dict[str, str] = {}
        for plan in plans:
            self._steps |= {key: stage.steps for key, stage in plan.stages.items()}
            self._names = stage_names(plan) | self._names
        self._done = set(done)
        self._read_plan = read_plan
        self._running: dict[str, RunningBeat] = {}
        self._end: float | None = None
        """Unix seconds at which the run is forecast to end."""
        self._last_line = time.monotonic()

    def tick(self, heartbeat: HeartbeatRecord) -> None:
        """Take in a heartbeat of the scheduler; write a line where there has been none for `QUIET_SECONDS`."""
        self._running = heartbeat.running
        self._end = self._own_end(heartbeat.eta)
        if time.monotonic() - self._last_line >= QUIET_SECONDS:
            stopping = "stopping, " if heartbeat.stopping else ""
            self._write(f"{stopping}{len(self._done)}/{len(self._steps)} stages done{self._now()}")

    def event(self, record: LogRecord) -> None:
        """Take in a record of the scheduler's log; write a line if it is of interest."""
        match record:
            case StageDone() if record.key in self._steps:
                self._done.add(record.key)
            case Queued() if self._read_plan is not None and record.plan not in self._named:
                self._named.add(record.plan)
                plan = self._read_plan(record.plan)
                names = stage_names(plan).items()
                self._names = {key: f"{plan.name}: {name}" for key, name in names} | self._names
        text = self._text(record)
        if text is not None:
            self._write(text)

    def _own_end(self, eta: EtaBeat) -> float | None:
        """Return when the command's own plans are forecast to end; when all do, where they are not all forecast."""
        left = {trial for trial, key in self._last.items() if key not in self._done}
        if not left or not left <= eta.trials.keys():
            return eta.end
        return max(eta.trials[trial] for trial in left)

    def _text(self, record: LogRecord) -> str | None:
        match record:
            case StageDone():
                count = f"{len(self._done)}/{len(self._steps)}"
                found = "" if record.score is None else record.metric.text(record.score)
                flag = f" {record.flag}" if record.flag else ""
                seconds = duration(record.seconds)
                return f"done {count}  {self._name(record.key)}  {found}{flag}  ({seconds})"
            case StageFailed() | Blocked() | StageNoted():
                return f"{self._name(record.key)}: {describe(record)}"
            case StudyStopped() | Leased() | SlotsSet():
                return describe(record)
            case WorkerEnded() if record.reason:
                return describe(record)
            case Answered():
                return f"request: {record.answer}"
        return None

    def _name(self, key: str) -> str:
        return self._names.get(key, f"rewind point {key[:8]}")  # a replay belongs to no trial

    def _now(self) -> str:
        """Some running stages and how far they are."""
        parts = [
            f"{self._name(key)} {stage.step / max(1, stage.steps):.0%}"
            for key, stage in list(self._running.items())[:SHOWN]
        ]
        more = ", …" if len(self._running) > SHOWN else ""
        return f", {len(self._running)} running: {', '.join(parts)}{more}" if parts else ""

    def _write(self, text: str) -> None:
        finished = sum(self._steps[key] for key in self._done & self._steps.keys())
        inside = sum(
            stage.step
            for key, stage in self._running.items()
            if key in self._steps and key not in self._done
        )
        # A replay is no stage of the plan: it adds nothing to the percentage.
        share = (finished + inside) / max(1, sum(self._steps.values()))
        left = duration(max(0.0, self._end - time.time()) if self._end else None)
        clock = time.strftime("%H:%M:%S")
        narrate(f"{clock}  {share:6.1%}  ETA {left:<6} {text}")
        self._last_line = time.monotonic()


def stage_names(plan: Study) -> dict[str, str]:
    """Name each stage after the first trial that it belongs to."""
    several = len({(trial.network, trial.dataset) for trial in plan.trials}) > 1
    names: dict[str, str] = {}
    for trial in plan.trials:
        where = f"{trial.network} {trial.dataset} " if several else ""
        for iteration, key in enumerate(trial.path):
            what = (
                f"{trial.strategy} {float(trial.sparsities[iteration]):.4g}"
                if iteration
                else "dense"
            )
            names.setdefault(key, f"{where}{what} · seed {trial.seeds}")
    return names
