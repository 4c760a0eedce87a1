"""`python -m prunectl.bench.simulation.replay SEED`: one schedule, told line by line.

In a process of its own with PYTHONHASHSEED=0, as `tally` runs it: else sets have another order, and the seed makes
another schedule.
"""

from __future__ import annotations

import sys

from prunectl.bench.simulation.schedule import Schedule
from prunectl.scheduler.executors.simulated_world import EPOCH
from prunectl.store import narration
from prunectl.store.records.base import LogRecord


def main(seed: int) -> int:
    """Tell what happens in the schedule. Returns 1 where something that must be true was not."""
    schedule = Schedule(seed)
    devices = ", ".join(f"{each.id} with {each.slots} slots" for each in schedule.scene.devices)
    for study in schedule.scene.studies:
        print(f"plan {study.name}: {len(study.trials)} trials, {len(study.stages)} stages")
    print(f"devices: {devices}; troubles until {schedule.scene.horizon:.0f} s")
    schedule.scene.on_record = tell
    schedule.scene.world.on_fault = lambda kind: print(f"{schedule.scene.world.now:9.2f}  * {kind}")
    outcome = schedule.run()
    print(f"{outcome.checks} checks in {outcome.seconds:.0f} s of the world")
    print(outcome.violation or "all that must be true was true")
    return int(outcome.violation is not None)


def tell(record: LogRecord) -> None:
    """Print a record of a scheduler's log."""
    key = getattr(record, "key", "")
    print(f"{record.time - EPOCH:9.2f}  {key[:8]:8}  {narration.describe(record)}")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
