"""Asks a store many questions and says how long they took: during a run, and again on the quiet store.

    prunectl run plans/fashion.toml --detach
    python tests/questions.py store                     # while it runs
    python tests/questions.py store                     # when it is done
    python tests/questions.py store --count 50 --seconds 6 --calls 3

Each question opens the file anew. Fails where one is not answered.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from prunectl.store.db import query
from prunectl.store.locks import is_held
from prunectl.store.paths import StorePaths

QUESTION = "SELECT strategy, count(*), avg(accuracy) FROM iterations GROUP BY strategy"


def ask(paths: StorePaths, count: int, seconds: float, calls: int) -> None:
    """`count` questions spread over `seconds`, and as many commands beside them."""
    command = [sys.executable, "-m", "prunectl.cli", "sql", QUESTION, "--store", str(paths.root)]
    processes: list[subprocess.Popen[bytes]] = []
    took: list[float] = []
    alive = 0
    started = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, started + number * seconds / count - time.monotonic()))
        if calls and number % max(1, count // calls) == 0 and len(processes) < calls:
            processes.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            )
        alive += is_held(paths.scheduler_lock)
        begun = time.perf_counter()
        query.run(paths, QUESTION)
        took.append(time.perf_counter() - begun)
    failed = [out for p in processes if (out := p.communicate()[1]) and p.returncode]
    print(
        f"{count} questions in {time.monotonic() - started:.0f} s, {alive} of them while a scheduler was alive: "
        f"median {1000 * statistics.median(took):.0f} ms, longest {1000 * max(took):.0f} ms; "
        f"{len(processes) - len(failed)} of {len(processes)} commands answered; load {os.getloadavg()[0]:.1f}"
    )
    if failed:
        sys.exit(failed[0].decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    ask(StorePaths(options.store.absolute()), options.count, options.seconds, options.calls)
