"""What the scheduler costs with many machines: simulated workers on 200 devices of 8 slots, a real scheduler, its queue
of 100,000 stages, its records and messages; no database.

`python -m prunectl.bench.fleet STAGES DEVICES SECONDS` measures in a process of its own, whose memory is all there is
to count, the simulated disk included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from prunectl.bench.records import Fleet, Work
from prunectl.bench.rounds import BenchError
from prunectl.bench.train import Tell
from prunectl.bench.workload import plan_text
from prunectl.gc_pause import without_collector
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors.base import WorkerProcess
from prunectl.scheduler.executors.simulated import SimulatedExecutor
from prunectl.scheduler.executors.simulated_behaviour import Behaviour
from prunectl.scheduler.executors.simulated_world import World
from prunectl.scheduler.scheduler import Scheduler
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import decode, encode
from prunectl.store.records.messages import AnyMessage
from prunectl.store.records.plan import write_plans
from prunectl.version import code_version

STAGES, DEVICES, SLOTS = 100_000, 200, 8
SECONDS = 600.0
"""Of the simulated world that are measured."""
EPOCHS = 36
EPOCH_SECONDS = 10.0
"""A stage takes six minutes: of 1,600 slots four or five end each second."""
STRATEGIES = ("fine-tune", "lr-rewind", "reinit")
ITERATIONS = 13
PER_SEED = 1 + len(STRATEGIES) * ITERATIONS
SCHEDULE = f'{{ kind = "step", lr = 0.1, milestones = ["{EPOCHS // 2}ep"] }}'
"""With a constant rate, lr-rewind would share its stages with fine-tune."""


def run(quick: bool, tell: Tell) -> Fleet:
    """Measure it in a process of its own."""
    words = (200, 2, 30.0) if quick else (STAGES, DEVICES, SECONDS)
    tell(f"a queue of {words[0]:,} stages and {words[1]} simulated devices of {SLOTS} slots")
    command = [sys.executable, "-m", "prunectl.bench.fleet", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise BenchError("the scheduler of simulated machines broke off")
    return decode(done.stdout, Fleet, "the measurement")


class Steady(Behaviour):
    """Workers without trouble, which beat every second as real ones do."""

    boot_seconds = 5.0
    epoch_seconds = EPOCH_SECONDS
    epoch_steps = 391
    beat_seconds = 1.0
    code = code_version()


class Measured(SimulatedExecutor):
    """An executor that knows what its world costs, which is not the scheduler's."""

    world_cpu = 0.0

    def wait(self, timeout: float) -> list[tuple[WorkerProcess, AnyMessage]]:
        """Let the world go on, and hear."""
        before = time.process_time()
        if timeout > 0:
            self.world.pass_time(self.world.now + timeout, lambda: bool(self._mail))
        self.world_cpu += time.process_time() - before
        return super().wait(0.0)


def measure(stages: int, devices: int, seconds: float) -> Fleet:
    """Run a scheduler for longer than a stage takes, and for `seconds` of the world from then on."""
    paths, world = StorePaths(Path("/store")), World()
    process = world.process("scheduler")
    with process.inside():
        began = time.process_time()
        digest, count = _plan(paths, stages)
        planned = time.process_time()
        fleet = [Device(f"cuda:{n}", "cuda", "made up", SLOTS, f"GPU-{n}") for n in range(devices)]
        executor = Measured(world, process, paths, fleet, Steady())
        scheduler = Scheduler(paths, executor, [digest])
        scheduler.start()
        scheduler.step()
        filled = time.process_time()
        _go_on(scheduler, 1.2 * EPOCHS * EPOCH_SECONDS)
        started = time.process_time() - executor.world_cpu
        ended = scheduler.reports.ran
        _go_on(scheduler, seconds)
        used = time.process_time() - executor.world_cpu - started
        done = scheduler.reports.ran - ended
        memory = psutil.Process(os.getpid()).memory_info().rss
        scheduler.close()
    return Fleet(
        devices=devices,
        slots=SLOTS,
        stages=count,
        seconds=seconds,
        stages_ended=done,
        start_seconds=filled - planned,
        plan_seconds=planned - began,
        cpu_percent=100 * used / seconds,
        cpu_ms_per_stage=1000 * used / max(1, done),
        rss_mib=memory / 2**20,
    )


def _go_on(scheduler: Scheduler, seconds: float) -> None:
    until = scheduler.clock.monotonic() + seconds
    while scheduler.clock.monotonic() < until:
        due = scheduler.step()
        if due is None:
            raise BenchError("the queue of the simulated machines came to its end")
        scheduler.listen(due)


def _plan(paths: StorePaths, stages: int) -> tuple[str, int]:
    """Record a plan of about so many stages. Returns its digest, and how many it has."""
    work = Work("lenet-300-100", (1, 28, 28), 50_000, 10_000, EPOCHS)
    seeds = -(-stages // PER_SEED)
    with without_collector():
        expansion = expand(loads(plan_text(work, seeds, ITERATIONS, STRATEGIES, SCHEDULE)), None)
        write_plans(paths, [expansion.study()])
        return expansion.digest, len(expansion.stages)


if __name__ == "__main__":
    found = measure(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    sys.stdout.buffer.write(encode(found))
