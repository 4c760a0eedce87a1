"""Step `fault`: a kernel reads beyond the end of a tensor; its process is lost, and the study goes on."""

from __future__ import annotations

import os
from pathlib import Path

from prunectl.bench.card import faulty_worker, studies
from prunectl.bench.card.records import Check, Order, Outcome
from prunectl.child import module_command
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.scheduler.devices.base import parse
from prunectl.scheduler.devices.system import SystemLayer
from prunectl.scheduler.executors.local import LocalExecutor
from prunectl.scheduler.scheduler import Scheduler
from prunectl.store.paths import StorePaths
from prunectl.store.records.events import Failed, read_events
from prunectl.store.records.plan import write_plans

FAULTY = module_command("prunectl.bench.card.faulty_worker")


def run(order: Order) -> Outcome:
    """Run the study in two slots with a worker that faults once, and compare it with the undisturbed one."""
    whole = studies.reference(order)
    with studies.another(order) as folder:
        store = StorePaths(Path(folder, "store"))
        os.environ[faulty_worker.FILE] = str(Path(folder, "faulted"))
        study = expand(loads(studies.write_plan(order).read_text(encoding="utf-8")), None).study()
        write_plans(store, [study])
        devices = parse(order.device, SystemLayer(), 2)
        executor = LocalExecutor(store, devices, data=folder, command=FAULTY, share=True)
        Scheduler(store, executor, [study.digest]).run()
        records = [
            each for stage in studies.stages(store) for each in read_events(stage.events).records
        ]
        lost = [each for each in records if isinstance(each, Failed) and each.reason == "device"]
        said = lost[0].message if lost else "no kernel's error was reported"
        return Outcome(
            (
                Check("the fault was met", bool(lost), said),
                studies.same_bits(whole, store),
            )
        )
