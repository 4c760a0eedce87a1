"""How a command runs stages: on which devices, with which data, and the scheduler in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prunectl.cli.support.terminal import narrate
from prunectl.store.paths import StorePaths
from prunectl.store.records.dataset import DatasetRecord, write_datasets
from prunectl.store.records.plan import write_plans
from prunectl.store.records.provenance import write_run
from prunectl.store.records.stage import has_result

if TYPE_CHECKING:  # the plan's models and the scheduler take 0.5 s to import
    from prunectl.plan.schema import RunTable
    from prunectl.scheduler.devices.base import Device, Slots, SlotsBy
    from prunectl.scheduler.outcome import Outcome
    from prunectl.spec.study import Study


@dataclass(frozen=True)
class Execution:
    """How the stages are run. None of it is part of a stage's key."""

    devices: list[Device]
    data: Path | None
    share: bool
    fuse: bool
    checkpoint_every: float
    """Seconds."""
    datasets: list[DatasetRecord]
    """What the files of its data sets hold."""


def choose_devices(
    option: str | None,
    slots: Slots | None,
    slots_by: SlotsBy | None,
    tables: Sequence[RunTable],
) -> list[Device]:
    """Choose the devices by the options, else by the plans' tables, and see that torch can use them."""
    from prunectl.cli.support import devices
    from prunectl.scheduler.devices.system import SystemLayer

    layer = SystemLayer()
    named = devices.named(option, tables)
    chosen = devices.choose(named, slots, slots_by, tables, layer)
    devices.check(named, chosen, layer)
    return chosen


def record(paths: StorePaths, plans: Sequence[Study], execution: Execution) -> str:
    """Write the plans, their data sets and the run into the store. Returns the run's id. Raises StoreError."""
    write_datasets(paths, execution.datasets)
    write_plans(paths, plans)
    devices = [device.id for device in execution.devices]
    return write_run(paths, [plan.digest for plan in plans], devices)


def schedule(
    paths: StorePaths, plans: Sequence[Study], execution: Execution, identifier: str
) -> Outcome:
    """Run all stages to their end in this process's scheduler, writing progress to stderr."""
    from prunectl.cli.support.progress import Progress
    from prunectl.ml.datasets.files import data_root
    from prunectl.scheduler.executors.local import WORKER, LocalExecutor
    from prunectl.scheduler.scheduler import Scheduler
    from prunectl.store.db.ingest import ingest
    from prunectl.store.records.plan import read_study

    keys = {key for plan in plans for key in plan.stages}
    done = {key for key in keys if has_result(paths, key)}
    progress = Progress(plans, done, partial(read_study, paths))
    devices = execution.devices
    executor = LocalExecutor(
        paths,
        devices,
        data=data_root(execution.data),
        command=[*WORKER, "--fuse"] if execution.fuse else WORKER,
        checkpoint_every=execution.checkpoint_every,
        share=execution.share,
    )
    scheduler = Scheduler(
        paths,
        executor,
        [plan.digest for plan in plans],
        ingest=ingest,
        run_id=identifier,
        on_heartbeat=progress.tick,
        on_record=progress.event,
    )
    slots = sum(device.slots for device in devices)
    most = "at most " if any(device.auto for device in devices) else ""
    narrate(
        f"{len(keys) - len(done)} of {len(keys)} stages to run on "
        f"{', '.join(device.id for device in devices)} ({most}{slots} at a time), store {paths.root}"
    )
    return scheduler.run()
