"""What the scheduler itself costs while many workers report to it: CPU and memory of its process alone.

The scheduler runs a large study in a process of its own, with a database to keep up to date; its workers are
processes that train nothing (`scheduler.executors.simulated`). That scheduler is
`python -m prunectl.bench.upkeep STORE SLOTS EPOCH_SECONDS`.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from prunectl.bench.records import Upkeep, Work
from prunectl.bench.rounds import BenchError, load
from prunectl.bench.train import Tell
from prunectl.bench.workload import plan_text
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import Epoch, read_events
from prunectl.store.records.heartbeat import read_heartbeat
from prunectl.store.records.plan import write_plans
from prunectl.store.records.scheduler_log import StageDone, read_scheduler_log

SLOTS = 64
EPOCH_SECONDS = 5.0
EPOCHS = 36
"""Of a stage: with 64 slots about one stage ends in three seconds."""
SEEDS = 196
STRATEGIES = ("fine-tune", "weight-rewind", "lr-rewind", "reinit")
ITERATIONS = 13
"""196 seeds, each with a dense stage and 4 strategies of 13 iterations, are 10,388 stages."""
SCHEDULE = f'{{ kind = "step", lr = 0.1, milestones = ["{EPOCHS // 2}ep"] }}'
"""With a constant rate, lr-rewind would share its stages with fine-tune."""
SIMULATED = "prunectl.scheduler.executors.simulated"
PATIENCE = 120.0
"""Seconds until all workers have started."""
SETTLE_SECONDS = 12.0
"""From then on until the window begins: a forecast is made every ten."""


def run(root: Path, seconds: float, quick: bool, tell: Tell) -> Upkeep:
    """Measure the CPU of the scheduler's process, in percent of one core, over `seconds` with 64 busy workers."""
    slots, epoch, settle = (4, 0.5, 0.0) if quick else (SLOTS, EPOCH_SECONDS, SETTLE_SECONDS)
    paths = StorePaths(root)
    stages = _plan(paths, seeds=14 if quick else SEEDS)
    tell(f"the scheduler with {slots} workers that only report, {seconds:g} s")
    with _scheduler(root, slots, epoch) as process:
        _wait(paths, slots, process)
        time.sleep(settle)
        begun = load()
        before, started = ProcessUsage(process.pid), time.time()
        time.sleep(seconds)
        after, wall = ProcessUsage(process.pid), time.time() - started
        ended = load()
        _wait(paths, slots, process)
    epochs = (
        record for log in paths.stages.glob("*/events.jsonl") for record in read_events(log).records
    )
    stages_done = read_scheduler_log(paths.scheduler_log).records
    main, rest = after.main - before.main, after.threads - before.threads
    return Upkeep(
        workers=slots,
        stages=stages,
        epoch_seconds=epoch,
        seconds=wall,
        load=(begun, ended),
        epochs_recorded=_count(epochs, Epoch, started, started + wall),
        stages_ended=_count(stages_done, StageDone, started, started + wall),
        cpu_percent=100 * (main + rest) / wall,
        loop_percent=100 * main / wall,
        ingestion_percent=100 * rest / wall,
        rss_start_mib=before.memory / 2**20,
        rss_end_mib=after.memory / 2**20,
    )


def _plan(paths: StorePaths, seeds: int) -> int:
    """Record a plan as `prunectl run` does. Returns the number of its stages."""
    work = Work("lenet-300-100", (1, 28, 28), 50_000, 10_000, EPOCHS)
    expansion = expand(loads(plan_text(work, seeds, ITERATIONS, STRATEGIES, SCHEDULE)), None)
    write_plans(paths, [expansion.study()])
    return len(expansion.stages)


class ProcessUsage:
    """What a process has used: CPU seconds of its main thread and of its others, and bytes of memory now."""

    def __init__(self, pid: int) -> None:
        process = psutil.Process(pid)
        main = next(thread for thread in process.threads() if thread.id == pid)
        self.main = main.user_time + main.system_time
        # Of the whole process, and so of threads that have ended, too; not of its children.
        times = process.cpu_times()
        self.threads = times.user + times.system - self.main
        self.memory = process.memory_info().rss


@contextlib.contextmanager
def _scheduler(root: Path, slots: int, epoch: float) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "prunectl.bench.upkeep", str(root), str(slots), str(epoch)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)  # its workers leave their stages and end
            try:
                process.wait(timeout=30)
            except BaseException:
                process.kill()
                raise


def _wait(paths: StorePaths, slots: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until all slots are busy and their workers have reported steps."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"the scheduler did not keep {slots} workers busy")
        running = read_heartbeat(paths).running.values()
        if len(running) >= slots - 1 and sum(each.step > 0 for each in running) > slots / 2:
            return
        time.sleep(0.2)


def _count(records: Iterable[LogRecord], kind: type[LogRecord], since: float, until: float) -> int:
    """Count the records of a kind that were written in a span of Unix time."""
    return sum(isinstance(record, kind) and since <= record.time < until for record in records)


def main() -> None:
    """Run the scheduler, until a signal."""
    from prunectl.scheduler.devices.base import Device
    from prunectl.scheduler.executors.local import LocalExecutor
    from prunectl.scheduler.scheduler import Scheduler
    from prunectl.store.db.ingest import ingest

    root, slots, epoch = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    paths = StorePaths(root)
    ingest(paths)
    executor = LocalExecutor(
        paths,
        [Device("cpu", "cpu", "nothing", slots)],
        command=[sys.executable, "-m", SIMULATED, "--epoch", epoch],
        share=True,
    )
    plans = [path.stem for path in sorted(paths.plans.glob("*.json"))]
    Scheduler(paths, executor, plans, ingest=ingest).run()


if __name__ == "__main__":
    main()
