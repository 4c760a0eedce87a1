"""`bench study`: a whole study from the shell to its table, against a script that does the same one after another."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prunectl.bench.records import StudyResult, Work, study_work
from prunectl.bench.rounds import BenchError, compared, load, one_thread
from prunectl.bench.train import Tell
from prunectl.bench.workload import LENET, plan_text

SEEDS = 3
ITERATIONS = 3


def run(rounds: int, quick: bool, tell: Tell) -> StudyResult:
    """Time both in turns, each as a user would start it. Raises BenchError."""
    train, test, epochs = (200, 50, 1) if quick else (60_000, 10_000, 2)
    seeds, iterations = (1, 1) if quick else (SEEDS, ITERATIONS)
    work = Work(LENET.network, LENET.shape, train, test, epochs)
    before = load()
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}: prunectl run")
        ours.append(_ours(work, seeds, iterations))
        tell(f"round {number + 1} of {rounds}: DataLoader script")
        theirs.append(_theirs(work, seeds, iterations))
    rows = (
        compared("prunectl run", ours, ours),
        compared("DataLoader script, 2 workers", theirs, ours),
    )
    about = study_work(work, stages=seeds * (iterations + 1))
    return StudyResult(about, (before, load()), rows)


def _ours(work: Work, seeds: int, iterations: int) -> float:
    with tempfile.TemporaryDirectory(prefix="prunectl-bench-") as folder:
        plan = Path(folder, "bench.toml")
        # A folder for each round: in a store that has the results there would be nothing to do.
        plan.write_text(plan_text(work, seeds, iterations), encoding="utf-8")
        return _timed(
            "prunectl.cli",
            *("run", str(plan), "--plain", "--share", "--devices", "cpu"),
            *("--store", str(Path(folder, "store")), "--data", folder),
        )


def _theirs(work: Work, seeds: int, iterations: int) -> float:
    numbers = [work.train, work.test, work.epochs, seeds, iterations]
    return _timed("prunectl.bench.plain_script", *map(str, numbers))


def _timed(module: str, *arguments: str) -> float:
    """Run a module as a command. Returns its seconds from start to end."""
    command = [sys.executable, "-m", module, *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread(), check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchError(f"{module} failed: {last}")
    return seconds
