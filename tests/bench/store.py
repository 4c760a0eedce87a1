"""Measure what a large store costs to index, to rank, to keep up to date and to ask.

python -m tests.bench.store [--stages 10000] [--epochs 182] [--quick] [--json]
python -m tests.bench.store --rebuild STORE     rebuild one store and print seconds and peak memory
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prunectl.bench.cleanup import orderly
from prunectl.bench.rounds import BenchError, load
from prunectl.bench.train import Tell
from prunectl.results.leaderboard import leaderboard
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest, rebuild
from prunectl.store.paths import StorePaths
from prunectl.store.records.events import Note
from prunectl.store.records.journal import Journal
from tests.support.fake_store import EFFECT, make_store

ITERATIONS = 13
SEEDS = 14
ROUNDS = 7
QUESTIONS = 20
ASKED = (
    "SELECT count(*), avg(accuracy) FROM epochs WHERE epoch = {n}",
    "SELECT strategy, iteration, avg(accuracy), count(*) FROM iterations WHERE seed = {n} GROUP BY ALL",
    "SELECT type, count(*) FROM events WHERE attempt = 1 AND seq > {n} GROUP BY type",
    "SELECT epoch, max(accuracy) FROM epochs GROUP BY epoch ORDER BY epoch LIMIT {n}",
    "SELECT layer, avg(kept / total) FROM layers WHERE position < {n} GROUP BY layer",
)
"""Questions that scan; each is asked with several numbers."""


def run(stages: int, epochs: int, quick: bool, tell: Tell) -> dict[str, Any]:
    """Seconds of each thing that is done with a store of at least so many stages. Raises BenchError."""
    rounds = 1 if quick else ROUNDS
    seeds = min(SEEDS, -(-stages // (1 + len(EFFECT) * ITERATIONS)))
    networks = -(-stages // (seeds * (1 + len(EFFECT) * ITERATIONS)))
    with tempfile.TemporaryDirectory(prefix="prunectl-bench-") as folder:
        root = Path(folder)
        trials = networks * seeds * len(EFFECT)
        maker = make_store(root, trials=trials, epochs=epochs, seeds=seeds, tell=tell)
        before = load()
        tell("store rebuild")
        again = _json([sys.executable, "-m", "tests.bench.store", "--rebuild", folder])
        measured = [
            _row("store rebuild", [again["seconds"]]),
            *_ranking(maker.paths, rounds, tell),
            *_ingesting(maker.paths, rounds, tell),
            *_asking(maker.paths, rounds, quick, tell),
        ]
        return {
            "store": {
                "plans": networks,
                "trials": trials,
                "stages": len(maker.stages),
                "epochs": epochs,
                "epoch_rows": query.run(maker.paths, "SELECT count(*) FROM epochs").rows[0][0],
                "log_bytes": sum(path.stat().st_size for path in root.glob("stages/*/*")),
                "database_bytes": maker.paths.database.stat().st_size,
                "rebuild_peak_mib": again["peak_mib"],
            },
            "load": [before, load()],
            "timings": measured,
        }


def _ranking(paths: StorePaths, rounds: int, tell: Tell) -> list[dict[str, Any]]:
    tell("rank")
    shell = ("rank", "p0", "--store", str(paths.root))
    return [
        _timed("rank of one plan", rounds, lambda: leaderboard(paths, "p0")),
        _timed("rank of all plans", rounds, lambda: leaderboard(paths, all_plans=True)),
        _timed("prunectl rank PLAN", rounds, lambda: _shell(*shell)),
        _timed(
            "prunectl rank --all",
            rounds,
            lambda: _shell("rank", "--all", "--store", str(paths.root)),
        ),
    ]


def _ingesting(paths: StorePaths, rounds: int, tell: Tell) -> list[dict[str, Any]]:
    tell("ingestion")
    key = min(path.name for path in paths.stages.iterdir())

    def news() -> None:
        journal = Journal(paths.stage(key).events)
        journal.append(Note(text="something new"))
        journal.close()

    return [
        _timed("ingest, one stage has news", rounds, lambda: ingest(paths, [key]), news),
        _timed("ingest, looking at all stages", rounds, lambda: ingest(paths), news),
    ]


def _asking(paths: StorePaths, rounds: int, quick: bool, tell: Tell) -> list[dict[str, Any]]:
    tell("questions")
    count = len(ASKED) if quick else QUESTIONS
    texts = [
        text.format(n=n)
        for n, text in zip(range(1, count + 1), itertools.cycle(ASKED), strict=False)
    ]
    each = [_seconds(lambda text=text: query.run(paths, text)) for text in texts]  # type: ignore[misc]
    shell = ("sql", texts[0], "--store", str(paths.root))
    return [
        _row("a question of SQL, file reopened", each),
        _row(f"{count} such questions", [sum(each)]),
        _timed("prunectl sql", rounds, lambda: _shell(*shell)),
    ]


def _timed(
    label: str, rounds: int, call: Callable[[], object], before: Callable[[], None] | None = None
) -> dict[str, Any]:
    times = []
    for _ in range(rounds):
        if before is not None:
            before()
        times.append(_seconds(call))
    return _row(label, times)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _row(label: str, times: Sequence[float]) -> dict[str, Any]:
    return {
        "label": label,
        "seconds": statistics.median(times),
        "fastest": min(times),
        "slowest": max(times),
        "rounds": len(times),
    }


def _shell(*arguments: str) -> str:
    return _output([sys.executable, "-m", "prunectl.cli", *arguments])


def _json(command: Sequence[str]) -> Any:
    return json.loads(_output(command))


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchError(f"{' '.join(command[1:4])} failed: {last}")
    return done.stdout


def rebuilt(folder: Path) -> dict[str, float]:
    """Rebuild the database of a store. Returns seconds and this process's peak memory in MiB."""
    report = rebuild(StorePaths(folder))
    status = Path("/proc/self/status").read_text().splitlines()
    # Not ru_maxrss: that of the process which started this one counts in it.
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"seconds": report.seconds, "peak_mib": peak / 1024}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store", description=__doc__)
    parser.add_argument("--stages", type=int, default=10_000, help="at least; whole plans of 742")
    parser.add_argument("--epochs", type=int, default=182, help="of each stage")
    parser.add_argument("--quick", action="store_true", help="try it, measure nothing")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument("--rebuild", type=Path, help="only rebuild this store")
    asked = parser.parse_args()
    if asked.rebuild:
        print(json.dumps(rebuilt(asked.rebuild)))
        return
    with orderly():
        size = (53, 3) if asked.quick else (asked.stages, asked.epochs)
        found = run(*size, asked.quick, lambda text: print(text, file=sys.stderr))
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found["store"].items():
        print(f"{name:40} {value:,.6g}")
    for row in found["timings"]:
        times = (f"{row[key]:.3f}" for key in ("seconds", "fastest", "slowest"))
        print(f"{row['label']:40}", *times, "s")
    print("load", *(f"{each[0]:.1f}" for each in found["load"]))


if __name__ == "__main__":
    main()
