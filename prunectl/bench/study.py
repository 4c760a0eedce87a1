"""`bench study`: a whole study from the shell to its table, against a script that does the same one after another."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from prunectl.bench.rounds import BenchError, compared, load, one_thread
from prunectl.bench.train import Tell
from prunectl.bench.workload import LENET, Work

SEEDS = 3
ITERATIONS = 3

PLAN = """\
# What does a study cost?
name  = "bench"
seeds = {seeds}

[grid]
network  = ["lenet-300-100"]
dataset  = ["images"]
strategy = ["fine-tune"]

[datasets.images]
kind = "synthetic"
channels = 1
height = 28
width = 28
train = {train}
test = {test}

[recipe]
length = "{epochs}ep"
batch = {batch}
evaluate = "1ep"
optimizer = {{ name = "sgd", momentum = 0.9, nesterov = true, weight_decay = 2e-4 }}
schedule = {{ kind = "constant", lr = 0.01 }}
retrain = {{ fine-tune = "full" }}

[pruning]
schedule = {{ kind = "iterative", rate = 0.3, iterations = {iterations} }}
"""


def run(rounds: int, quick: bool, tell: Tell) -> dict[str, Any]:
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
    rows = [
        compared("prunectl run", ours, ours),
        compared("DataLoader script, 2 workers", theirs, ours),
    ]
    record = work.to_json() | {"steps": work.steps, "stages": seeds * (iterations + 1)}
    return {
        "work": record,
        "load": [before, load()],
        "measured": [row.to_json() for row in rows],
    }


def _ours(work: Work, seeds: int, iterations: int) -> float:
    with tempfile.TemporaryDirectory(prefix="prunectl-bench-") as folder:
        plan = Path(folder, "bench.toml")
        text = PLAN.format(
            seeds=list(range(seeds)),
            train=work.train,
            test=work.test,
            epochs=work.epochs,
            batch=work.batch,
            iterations=iterations,
        )
        plan.write_text(text, encoding="utf-8")
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
