"""Progress of a run in the foreground: bars on a terminal, one line per event elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from prunectl.cli.support.tables import duration
from prunectl.cli.support.terminal import leave_if_closed

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from prunectl.plan.expand import Expansion

Record = dict[str, Any]


class Display(Protocol):
    """What a run reports to."""

    def __enter__(self) -> Display: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def tick(self, heartbeat: Record) -> None:
        """A heartbeat of the scheduler."""

    def event(self, record: Record) -> None:
        """A record of the scheduler's log."""


class Work:
    """What there is to do, in steps, and how stages are called."""

    def __init__(self, expansions: Iterable[Expansion], done: set[str]) -> None:
        self.steps: dict[str, int] = {}
        self.names: dict[str, str] = {}
        for expansion in expansions:
            self._name(expansion)
            self.steps |= {key: spec.steps for key, spec in expansion.stages.items()}
        self.done = done & self.steps.keys()

    def _name(self, expansion: Expansion) -> None:
        several = len({(trial.network, trial.dataset) for trial in expansion.trials}) > 1
        for trial in expansion.trials:
            where = f"{trial.network} {trial.dataset} " if several else ""
            for iteration, key in enumerate(trial.path):
                if iteration == 0:
                    name = f"{where}dense · seed {trial.seed}"
                else:
                    sparsity = float(trial.sparsities[iteration])
                    name = f"{where}{trial.strategy} {sparsity:.4g} · seed {trial.seed}"
                self.names.setdefault(key, name)

    @property
    def total(self) -> int:
        return sum(self.steps.values())

    @property
    def finished(self) -> int:
        """Steps of the stages that are done."""
        return sum(self.steps[key] for key in self.done)

    def name(self, key: str) -> str:
        """What a stage is called; a replay has no trial of its own."""
        return self.names.get(key, f"rewind point {key[:8]}")

    def finish(self, key: str) -> None:
        """A stage is done."""
        if key in self.steps:
            self.done.add(key)


def describe(record: Record, work: Work) -> str | None:
    """A line about an event; None for those nobody waits for."""
    name = work.name(record.get("key", ""))
    match record["type"]:
        case "stage_done":
            count = f"{len(work.done)}/{len(work.steps)}"
            accuracy = record.get("accuracy")
            found = f"{accuracy:.2f} %" if accuracy is not None else ""
            flag = f" {record['flag']}" if record.get("flag") else ""
            return f"done {count}  {name}  {found}{flag}  ({duration(record.get('seconds'))})"
        case "stage_failed":
            again = "" if record.get("final") else ", will be tried again"
            return f"FAILED  {name}: {record['reason']}: {record['message']}{again}"
        case "blocked":
            return f"blocked  {len(record['keys'])} stages wait for what failed: {name}"
        case "study_stopped":
            return f"STOPPED  {record['name']}: {record['reason']}"
        case "worker_ended" if record.get("reason"):
            return f"worker {record['worker']} ended: {record['reason']}"
        case "leased":
            return f"{record['device']} is used by {record['reason']}"
        case "request":
            return f"request: {record['answer']}"
        case "lanes":
            from prunectl.store.records import scheduler_log as history

            return history.describe(record)
    return None


class PlainDisplay:
    """One line per event."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tick(self, heartbeat: Record) -> None:
        """Nothing: a line a second would bury the others."""

    def event(self, record: Record) -> None:
        leave_if_closed()
        if record["type"] == "stage_done":
            self.work.finish(record["key"])
        text = describe(record, self.work)
        if text is not None:
            print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class LiveDisplay:
    """An overall bar with the time it will take, and a bar per running stage."""

    def __init__(self, work: Work) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        from prunectl.cli.support.tables import console

        self.work = work
        self.bars: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>5.1f} %"),
            TextColumn("{task.fields[note]}", markup=False),
            console=console(stderr=True),
            transient=True,
        )
        self.overall: TaskID = self.bars.add_task("", total=max(1, work.total), note="starting")
        self.running: dict[str, TaskID] = {}

    def __enter__(self) -> LiveDisplay:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def tick(self, heartbeat: Record) -> None:
        leave_if_closed()
        running: dict[str, Record] = heartbeat["running"]
        for key in [key for key in self.running if key not in running]:
            self.bars.remove_task(self.running.pop(key))
        inside = 0
        for key, stage in running.items():
            if key in self.work.steps and key not in self.work.done:
                inside += stage["step"]
            if key not in self.running:
                total = max(1, stage["steps"])
                self.running[key] = self.bars.add_task(self.work.name(key), total=total, note="")
            accuracy = stage.get("accuracy")
            note = f"{accuracy:6.2f} %  " if accuracy is not None else ""
            note += f"{stage['device']}  {duration(stage.get('eta'))}"
            self.bars.update(self.running[key], completed=stage["step"], note=note)
        end = heartbeat["eta"]["end"]
        left = duration(max(0.0, end - heartbeat["time"])) if end else "–"
        stopping = "stopping · " if heartbeat.get("stopping") else ""
        self.bars.update(
            self.overall,
            completed=self.work.finished + inside,
            description=f"{len(self.work.done)}/{len(self.work.steps)} stages",
            note=f"{stopping}ETA {left}",
        )

    def event(self, record: Record) -> None:
        leave_if_closed()
        if record["type"] == "stage_done":
            self.work.finish(record["key"])
        elif (text := describe(record, self.work)) is not None:
            self.bars.console.print(text, markup=False)
