"""`kill -9` of the commands that write: rebuild, import, export, replicate, and `sql` beside a rebuild.

Each is a process of its own, killed at a random moment between its start and its end, as measured before. Then
everything that was in the store must be there to the byte, questions must be answered from what is done, and the same
command again must come to what it comes to undisturbed; of these calls a part are processes, too.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from prunectl.cli.support.plan_record import check_plan_record
from prunectl.errors import StoreError
from prunectl.store.archive import MANIFEST
from prunectl.store.bundle import open_bundle
from prunectl.store.db import ingest, query
from prunectl.store.import_study import Import
from prunectl.store.paths import StorePaths
from prunectl.store.records.replication import read_replications
from prunectl.store.verify import verify
from tests.chaos import study
from tests.chaos.kills import Tally
from tests.support.tiny_plans import tiny_plan

SHARES = {"rebuild": 330, "import": 240, "sql": 230, "export": 130, "replicate": 20}
"""Kills of each in the full form."""

ASKED = "SELECT trial, iteration, accuracy, loss FROM iterations WHERE plan = 'tiny' ORDER BY ALL"
BY_COMMAND = 0.1
"""Of the calls after a kill these are processes; the others are made here, which saves two seconds each."""


def run(*words: str | Path) -> subprocess.Popen[str]:
    """Start the command in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "prunectl.cli", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=study.environment(),
        start_new_session=True,
    )


def wait(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and all that it said."""
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def contents(root: Path, *folders: str) -> dict[str, str]:
    """Digests of all files in the folders, or in all, by name; of locks and temporary files none."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders or (".",)
        for path in (root / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "lock"
    }


Rows = list[tuple[Any, ...]]
Problems = list[str]
RECORDS = ("stages", "plans", "runs", "datasets", "replications")


@dataclass
class Ground:
    """A finished study, its archive, and a store that holds another study."""

    folder: Path
    span: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Seconds from the start of a command: when it begins its work, and when it is done."""

    @classmethod
    def make(cls, folder: Path) -> Ground:
        """In `folder`, whose `chaos.toml` is the plan."""
        ground = cls(folder)
        plan, log = folder / "other.toml", folder / "other.log"
        plan.write_text(tiny_plan(seeds=[7]).replace('"tiny"', '"other"'))
        if not ground.whole.exists():
            assert study.finish(folder / "chaos.toml", ground.whole, log) == 0, log.read_text()
        assert study.finish(plan, ground.other, log) == 0, log.read_text()
        ground.must("store", "rebuild", "--store", ground.whole)
        ground.must("export", "--study", "tiny", "--out", ground.archive, "--store", ground.whole)
        return ground

    @property
    def whole(self) -> Path:
        return self.folder / "whole"

    @property
    def other(self) -> Path:
        return self.folder / "other"

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @cached_property
    def records(self) -> dict[str, str]:
        return contents(self.whole, *RECORDS)

    @cached_property
    def answer(self) -> Rows:
        return answer(self.whole)

    def must(self, *words: str | Path) -> str:
        """The command, which must end well; what it said."""
        code, said = wait(run(*words))
        assert code == 0, f"{' '.join(map(str, words))}: {code}: {said}"
        return said

    def moment(self, what: str, chance: random.Random) -> float:
        """Seconds after the start of the command at which it is killed."""
        return chance.uniform(*self.span[what])


def answer(store: Path) -> Rows:
    """Rows of the study's results."""
    return query.run(StorePaths(store), ASKED).rows


def parsed(text: str) -> Rows:
    """Rows of `sql --format csv`, without the lines that it says before."""
    found = list(csv.reader(io.StringIO(text)))
    first = next(number for number, row in enumerate(found) if row and row[0] == "trial") + 1
    return [(trial, int(k), *map(float, scores)) for trial, k, *scores in found[first:]]


def kill_at(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether it was still there to be killed."""
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=seconds)
        return False
    return kill(process)


def kill(process: subprocess.Popen[str]) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


Strike = Callable[[Ground, Path, random.Random], tuple[bool, Problems]]
"""One kill, in an empty folder of its own: whether the command was still there, and what was not as it should be."""


def same(what: str, found: object, expected: object) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        names = found.keys() | expected.keys()
        other = sorted(name for name in names if found.get(name) != expected.get(name))
        if other:
            yield f"{what}: {len(other)} files are not what they were: {', '.join(other[:3])}"
    elif found != expected:
        yield f"{what}: {str(found)[:300]} instead of {str(expected)[:300]}"


def kill_rebuild(ground: Ground, place: Path, chance: random.Random) -> tuple[bool, Problems]:
    store = place / "store"
    shutil.copytree(ground.whole, store)
    words = ("store", "rebuild", "--store", store)
    if chance.random() < 0.3:  # a database of which nothing is left
        StorePaths(store).database.unlink()
    struck = kill_at(run(*words), ground.moment("rebuild", chance))
    problems = list(same("records", contents(store, *RECORDS), ground.records))
    if chance.random() < 0.5:
        problems += same("answer", answer(store), ground.answer)
    if chance.random() < BY_COMMAND:
        ground.must(*words)
    else:
        ingest.rebuild(StorePaths(store))
    problems += same("answer", answer(store), ground.answer)
    problems += verify(StorePaths(store)).problems
    return struck, problems


def kill_import(ground: Ground, place: Path, chance: random.Random) -> tuple[bool, Problems]:
    store, problems = place / "store", []
    before = {}
    if chance.random() < 0.5:
        shutil.copytree(ground.other, store)
        before = contents(store, *RECORDS)
    words = ("import", ground.archive, "--store", store)
    struck = kill_at(run(*words), ground.moment("import", chance))
    paths = StorePaths(store)
    found = contents(store, *RECORDS) if store.exists() else {}
    problems += [
        f"{name} is not what it was" for name, each in before.items() if found.get(name) != each
    ]
    # A stage that has a result is whole: so is whatever it has.
    for path in paths.stages.glob("*/result.json"):
        name = f"stages/{path.parent.name}/"
        if any(key.startswith(name) for key in before):
            continue
        wanted = {key: each for key, each in ground.records.items() if key.startswith(name)}
        problems += same(name, {key: found[key] for key in found if key.startswith(name)}, wanted)
    if chance.random() < BY_COMMAND:
        ground.must(*words)
    else:
        Import(ground.archive, paths).run(partial(check_plan_record, tell=problems.append))
        ingest.ingest(paths)
    expected = {name: each for name, each in ground.records.items() if not name.startswith("runs/")}
    found = contents(store, *RECORDS)
    problems += same("records", {name: found.get(name) for name in expected}, expected)
    problems += [
        f"{name} is not what it was" for name, each in before.items() if found.get(name) != each
    ]
    problems += same("answer", answer(store), ground.answer)
    problems += verify(paths).problems
    problems += [f"{path} is left" for path in paths.control.glob("import-*")]
    return struck, problems


def kill_export(ground: Ground, place: Path, chance: random.Random) -> tuple[bool, Problems]:
    target = place / "archive"
    words = ("export", "--study", "tiny", "--out", target, "--store", ground.whole)
    struck = kill_at(run(*words), ground.moment("export", chance))
    problems = list(same("records", contents(ground.whole, *RECORDS), ground.records))
    if not (target / MANIFEST).exists():
        if target.exists():
            with suppress(StoreError):
                open_bundle(target)
                problems.append("what was begun passes for a bundle")
            shutil.rmtree(target)
        ground.must(*words)
    bundle = contents(target, "stages", "plans")
    expected = {
        name: each
        for name, each in ground.records.items()
        if name.startswith(("stages/", "plans/"))
    }
    problems += same("archive", {name: bundle.get(name) for name in expected}, expected)
    other = StorePaths(place / "store")
    Import(target, other).run(partial(check_plan_record, tell=problems.append))
    problems += same("answer", answer(other.root), ground.answer)
    return struck, problems


def kill_sql(ground: Ground, place: Path, chance: random.Random) -> tuple[bool, Problems]:
    """`sql` beside a rebuild: one of them is killed, and the other one ends well."""
    store = place / "store"
    shutil.copytree(ground.whole, store)
    rebuild = run("store", "rebuild", "--store", store)
    sql = run("sql", ASKED, "--format", "csv", "--store", store)
    victim, other = (sql, rebuild) if chance.random() < 0.6 else (rebuild, sql)
    struck = kill_at(victim, ground.moment("sql" if victim is sql else "rebuild", chance))
    code, said = wait(other)
    problems = []
    if code != 0:
        problems.append(f"beside the killed one: exit status {code}: {said}")
    elif other is sql:
        problems += same("answer beside a killed rebuild", parsed(said), ground.answer)
    problems += same("answer", answer(store), ground.answer)
    problems += same("records", contents(store, *RECORDS), ground.records)
    problems += verify(StorePaths(store)).problems
    return struck, problems


def kill_replicate(ground: Ground, place: Path, chance: random.Random) -> tuple[bool, Problems]:
    """The command itself, a worker of it, or all: the same again comes to a verdict for each of its stages."""
    store = place / "replication"
    words = ("replicate", ground.archive, "--stages", "2", "--seed", str(chance.randrange(100)))
    words += ("--store", str(store), "--slots", "1", "--devices", "cpu")
    process = run(*words)
    with suppress(subprocess.TimeoutExpired):
        process.wait(ground.moment("replicate", chance))
    wanted = chance.choice(("scheduler", "worker", "all"))
    chosen = [pid for pid, role in study.processes(store).items() if wanted in (role, "all")]
    for pid in chosen:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    ground.must(*words)
    found = [each for _, each in read_replications(StorePaths(store))]
    problems = list(same("verdicts", [each.verdict for each in found], ["identical"] * 2))
    problems += same("stages judged", len({each.key for each in found}), 2)
    problems += verify(StorePaths(store)).problems
    if not study.all_gone(store):
        problems.append(f"processes are left: {study.processes(store)}")
    return bool(chosen), problems


STRIKES: dict[str, Strike] = {
    "rebuild": kill_rebuild,
    "import": kill_import,
    "sql": kill_sql,
    "export": kill_export,
    "replicate": kill_replicate,
}


def _measure(ground: Ground, kills: dict[str, int]) -> None:
    """When each command begins its work, and when it is done: the median of three where many are killed."""
    place = ground.folder / "measured"
    place.mkdir()
    own: dict[str, Callable[[int], Sequence[str | Path]]] = {
        "rebuild": lambda n: ("store", "rebuild", "--store", ground.whole),
        "import": lambda n: ("import", ground.archive, "--store", place / f"import-{n}"),
        "sql": lambda n: ("sql", ASKED, "--store", ground.whole),
        "export": lambda n: (
            *("export", "--study", "tiny", "--out", place / f"export-{n}"),
            *("--store", ground.whole),
        ),
        "replicate": lambda n: (
            *("replicate", ground.archive, "--stages", "2", "--seed", "1", "--slots", "1"),
            *("--devices", "cpu", "--store", place / f"replicate-{n}"),
        ),
    }

    def seconds(words: Sequence[str | Path]) -> float:
        started = time.monotonic()
        ground.must(*words)
        return time.monotonic() - started

    start = sorted(seconds(("store", "where")) for _ in range(3))[1]
    for name in kills:
        times = sorted(seconds(own[name](n)) for n in range(3 if kills[name] > 9 else 1))
        ground.span[name] = (0.9 * start, times[len(times) // 2])
    shutil.rmtree(place)


def rampage(
    folder: Path,
    kills: dict[str, int],
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    jobs: int = 1,
) -> Tally:
    """Kill each command until it was killed so often, `jobs` at once."""
    ground, tally = Ground.make(folder), Tally()
    _measure(ground, kills)
    assert ground.answer
    assert ground.records

    def once(name: str, number: int) -> tuple[bool, Problems]:
        place = folder / f"{name}-{number}"
        place.mkdir()
        struck, problems = STRIKES[name](ground, place, random.Random(f"{seed} {name} {number}"))
        shutil.rmtree(place)
        return struck, [f"{name} {number}: {each}" for each in problems]

    with ThreadPoolExecutor(jobs) as pool:
        for name, wanted in kills.items():
            number = 0
            while (missing := wanted - tally.kills[name]) > 0:
                tries = range(number, number + missing)
                number += missing
                for struck, problems in pool.map(lambda n, name=name: once(name, n), tries):
                    tally.kills[name] += struck
                    tally.late += not struck
                    tally.problems += problems
            say(f"{tally.kills[name]} kills of {name}; {len(tally.problems)} problems so far")
    return tally
