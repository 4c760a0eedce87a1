"""`bench scheduler`: the time between two stages, with a warm worker and with a process for each, and what the
scheduler itself costs (`upkeep`), also with many machines (`fleet`)."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from msgspec.structs import replace

from prunectl.bench import fleet, upkeep
from prunectl.bench.records import Gaps, SchedulerResult, Work
from prunectl.bench.rounds import BenchError, load
from prunectl.bench.train import Tell
from prunectl.bench.workload import dense_stage
from prunectl.spec.key import NUMERICS, Spec, stage_key
from prunectl.spec.stage import Stage
from prunectl.spec.study import PlannedStage, Study
from prunectl.spec.trial import Trial
from prunectl.store.files import write_text
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord, encode
from prunectl.store.records.events import Begin, read_events
from prunectl.store.records.messages import RunStage, StageDone, parse_message
from prunectl.store.records.plan import write_study
from prunectl.store.records.result import Result

TINY = Work("convnet", (1, 8, 8), train=640, test=100, epochs=1, batch=64)


def run(stages: int, quick: bool, tell: Tell, seconds: float = 60.0) -> SchedulerResult:
    """Measure the seconds from the end of a stage (its `done` record) to the first step of the next (its `begin`
    record), and what the scheduler needs itself over a window of `seconds`."""
    count = 3 if quick else stages
    before = load()
    with tempfile.TemporaryDirectory(prefix="prunectl-bench-") as folder:
        tell(f"{count} stages in a warm worker under the scheduler")
        warm = _scheduled(Path(folder, "warm"), count)
        tell(f"{count} stages in a process each")
        cold = _processes(Path(folder, "cold"), 2 if quick else min(count, 5))
        between = load()
        own = upkeep.run(Path(folder, "upkeep"), 1.0 if quick else seconds, quick, tell)
    many = fleet.run(quick, tell)
    gaps = _summary("warm worker", warm), _summary("process per stage", cold)
    return SchedulerResult(TINY, (before, between), gaps, own, many)


def _summary(label: str, gaps: list[float]) -> Gaps:
    return Gaps(label, statistics.median(gaps), min(gaps), max(gaps), gaps=len(gaps))


def _specs(count: int) -> dict[str, Stage]:
    specs = [replace(dense_stage(TINY), seed=seed) for seed in range(count)]
    return {stage_key(spec): spec for spec in specs}


def _scheduled(root: Path, count: int) -> list[float]:
    """Return the gaps with the scheduler and one worker process, as `prunectl run` has them."""
    from prunectl.scheduler.devices.base import with_slots
    from prunectl.scheduler.devices.cpu import CpuLayer
    from prunectl.scheduler.executors.local import LocalExecutor
    from prunectl.scheduler.scheduler import Scheduler

    paths = StorePaths(root)
    stages = {
        key: PlannedStage(Spec(NUMERICS, stage), stage.steps, stage.steps)
        for key, stage in _specs(count).items()
    }
    trials = tuple(
        Trial(key[:16], "0" * 16, seed, (key,), ("0",), "bench", network="convnet", strategy="none")
        for seed, key in enumerate(stages)
    )
    write_study(paths, Study(digest="bench", name="bench", trials=trials, stages=stages))
    device = with_slots(CpuLayer().devices()[0], 1)
    executor = LocalExecutor(paths, [device], data=root, share=True)
    outcome = Scheduler(paths, executor, ["bench"]).run()
    if outcome.interrupted:
        raise KeyboardInterrupt  # the scheduler has caught the signal
    if not outcome.ok:
        raise BenchError(f"stages failed: {outcome.failure}")
    logs = sorted(
        (read_events(paths.stage(key).events).records for key in stages),
        key=lambda log: log[0].time,
    )
    return [_at(after, Begin) - _at(log, Result) for log, after in itertools.pairwise(logs)]


def _at(log: Sequence[LogRecord], kind: type[LogRecord]) -> float:
    return next(record.time for record in log if isinstance(record, kind))


def _processes(root: Path, count: int) -> list[float]:
    """Return the seconds from the start of a worker to its first step, a worker for each stage."""
    paths = StorePaths(root)
    gaps = []
    for key, spec in _specs(count).items():
        paths.stage(key).folder.mkdir(parents=True)
        write_text(paths.stage(key).spec, Spec(NUMERICS, spec).to_json())
        started = time.time()
        with subprocess.Popen(
            [sys.executable, "-m", "prunectl.worker", "--store", root, "--data", root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(encode(RunStage(key, attempt=1)) + b"\n")
            process.stdin.flush()
            _wait(process.stdout)
            process.kill()
        gaps.append(_at(read_events(paths.stage(key).events).records, Begin) - started)
    return gaps


def _wait(lines: IO[bytes]) -> None:
    for line in lines:
        if isinstance(parse_message(line), StageDone):
            return
    raise BenchError("a worker ended before its stage did")
