"""A tiny study for killing: how it is run, what it comes to, and what it must leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunectl.store.db import ingest, query
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.tensors import read_checked
from prunectl.store.verify import verify
from tests.support.records import events as read
from tests.support.records import read_json
from tests.support.tiny_plans import tiny_plan

ROOT = Path(__file__).parents[2]
INJECT = Path(__file__).parent / "inject"

PLAN = tiny_plan(
    question="Does it survive?",
    seeds=[0],
    side=16,
    train=2048,
    test=400,
    epochs=10,
    batch=32,
    milestones=(5, 8),
    rewound=8,
)

ROWS = {
    "iterations": "SELECT * EXCLUDE (seconds, device, device_name, started, ended) FROM iterations",
    "epochs": "SELECT * EXCLUDE (seconds, time, attempt) FROM epochs",
    "layers": "SELECT * FROM layers",
    "schedules": "SELECT * FROM schedules",
}
"""Everything that must come out the same to the last bit."""


PASSING = {"seq", "attempt", "time", "seconds", "started", "ended", "peak_memory"}
PASSING |= {"lines_before", "digest_before", "sum"}
"""What another run of the same may say otherwise."""


@dataclass(frozen=True)
class Facts:
    """What a study came to."""

    rows: dict[str, list[tuple[Any, ...]]]
    finals: dict[str, str]
    """Checksum of the weights of each stage at its end, as verified."""


def write_plan(folder: Path, short: bool = False) -> Path:
    """The plan as a file; the short one is a chain of three stages."""
    file = folder / "chaos.toml"
    file.write_text(
        PLAN.replace('["fine-tune", "weight-rewind"]', '["weight-rewind"]') if short else PLAN
    )
    return file


def command(plan: Path, store: Path) -> list[str]:
    """The command that runs the study, and goes on with it."""
    arguments = ["run", str(plan), "--store", str(store), "--plain", "--devices", "cpu"]
    slots = min(2, len(os.sched_getaffinity(0)))
    arguments += ["--slots", str(slots), "--checkpoint-every", "0.05"]
    return [sys.executable, "-m", "prunectl.cli", *arguments]


def environment(**extra: str) -> dict[str, str]:
    """Of the command: the checkout's package, one thread per process."""
    path = os.pathsep.join([str(INJECT), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **extra}


def start(plan: Path, store: Path, log: Path, **extra: str) -> subprocess.Popen[bytes]:
    """The command in a session of its own, its output in `log`."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command(plan, store),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment(**extra),
            start_new_session=True,
        )


def finish(plan: Path, store: Path, log: Path, seconds: float = 300) -> int:
    """The command, to its end; its exit status."""
    return start(plan, store, log).wait(seconds)


def processes(store: Path) -> dict[int, str]:
    """Living processes that name the store, by pid: `scheduler` or `worker`."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(store) in words and state != "Z" and int(folder.name) != os.getpid():
            found[int(folder.name)] = "worker" if "prunectl.worker" in words else "scheduler"
    return found


def all_gone(store: Path, seconds: float = 5) -> bool:
    """Whether no process of the store is left, or remains within some seconds."""
    deadline = time.monotonic() + seconds
    while processes(store):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def facts(store: Path) -> Facts:
    """What the study came to, after looking at everything that must hold of any store.

    Raises AssertionError where something does not.
    """
    paths = StorePaths(store)
    found = verify(paths)
    assert not found.problems, found.problems
    rows = _rows(paths)
    repeated = query.run(
        paths, "SELECT trial, iteration FROM iterations GROUP BY ALL HAVING count(*) > 1"
    )
    assert not repeated.rows
    ingest.rebuild(paths)
    assert _rows(paths) == rows, "the database says what the files say"
    return Facts(rows, {key: found.checksums[key] for key in sorted(found.checksums)})


def files(store: Path) -> dict[str, Any]:
    """What the stages' files say, without a database: a hundred times cheaper than `facts`."""
    said: dict[str, Any] = {}
    for folder in sorted(StorePaths(store).stages.iterdir()):
        stage = StagePaths(folder)
        said[f"{stage.key} result"] = _timeless(read_json(stage.result))
        records = read(stage.events)
        assert [record["seq"] for record in records] == list(range(len(records)))
        for record in records:
            if record["type"] == "epoch":
                said[f"{stage.key} epoch {record['epoch']}"] = _timeless(record)
        for path in stage.folder.glob("*.safetensors"):
            said[f"{stage.key} {path.name}"] = read_checked(path).checksum
    return said


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in PASSING}


def _rows(paths: StorePaths) -> dict[str, list[tuple[Any, ...]]]:
    return {table: query.run(paths, f"{sql} ORDER BY ALL").rows for table, sql in ROWS.items()}


def differences(whole: Facts, other: Facts) -> list[str]:
    """How two results of the study differ, in words."""
    said = []
    for table, rows in whole.rows.items():
        if rows != other.rows[table]:
            pairs = zip(rows, other.rows[table], strict=False)
            first = next((pair for pair in pairs if pair[0] != pair[1]), None)
            said.append(f"{table}: {len(rows)} rows and {len(other.rows[table])}, first {first}")
    for key, checksum in whole.finals.items():
        if other.finals.get(key) != checksum:
            said.append(f"final weights of {key[:12]}")
    return said
