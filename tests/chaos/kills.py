"""`kill -9` of the scheduler, a worker or all of them, at random moments, until the study is done all the same.

Some schedulers are stopped first, and asked by a second run of the same plan: it names them and leaves its request.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from prunectl.errors import ExitCode
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import current_studies
from tests.chaos import study

VICTIMS = ("scheduler", "stopped", "worker", "all")


@dataclass
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    studies: int = 0
    """Done to their end, each compared with the one that nobody disturbed."""
    attempts: int = 0
    """Starts of the command."""
    late: int = 0
    """Kills that came when the command had ended: not counted among them."""
    problems: list[str] = field(default_factory=list)


def whole(folder: Path) -> study.Facts:
    """The study undisturbed; its plan is in the folder."""
    plan = folder / "chaos.toml"
    store = folder / "whole"
    code = study.finish(plan, store, folder / "whole.log")
    assert code == 0, (folder / "whole.log").read_text()
    assert study.all_gone(store)
    return study.facts(store)


def rampage(
    folder: Path,
    reference: study.Facts,
    kills: int,
    seed: int,
    span: float,
    say: Callable[[str], None] = lambda text: None,
) -> Tally:
    """Run the study in store after store until so many kills have struck.

    Each store is killed at until its study is done; the last is run to its end when the kills are used up. A kill
    strikes `span` seconds at most after there is a worker that trains, so that a study takes several.
    """
    chance = random.Random(seed)
    tally = Tally()
    plan = folder / "chaos.toml"
    while sum(tally.kills.values()) < kills:
        tally.studies += 1
        store = folder / f"store-{tally.studies}"
        log = folder / f"store-{tally.studies}.log"
        while sum(tally.kills.values()) < kills:
            tally.attempts += 1
            process = study.start(plan, store, log)
            victim = "worker"
            # A scheduler replaces the workers it loses and goes on: they can be killed again.
            while victim == "worker" and sum(tally.kills.values()) < kills:
                victim = chance.choice(VICTIMS)
                struck = _strike(process, store, victim, chance.uniform(0, span), chance)
                if not struck:
                    break
                if victim == "stopped":
                    code = study.finish(plan, store, log, seconds=60)
                    if code != (ExitCode.OK if _all_done(store) else ExitCode.STORE):
                        tally.problems.append(f"beside a stopped scheduler: exit status {code}")
                    process.kill()
                tally.kills[victim] += 1
                say(f"kill {sum(tally.kills.values())}: {victim} of study {tally.studies}")
            process.wait(300)
            if not study.all_gone(store):
                tally.problems.append(f"processes are left: {study.processes(store)}")
            if process.wait(300) == 0:
                break
        code = study.finish(plan, store, log)
        if code != 0:
            tally.problems.append(f"exit status {code}:\n{log.read_text()[-3000:]}")
            continue
        tally.problems += study.differences(reference, study.facts(store))
        say(f"study {tally.studies} is done; {len(tally.problems)} problems so far")
    return tally


def _strike(
    process: subprocess.Popen[bytes],
    store: Path,
    victim: str,
    delay: float,
    chance: random.Random,
) -> bool:
    """Kill when a worker has begun to train and some time has gone by; False if it was all over by then.

    The victim `stopped` is the scheduler, with SIGSTOP.
    """
    before = _log_sizes(store)
    while process.poll() is None and _log_sizes(store) == before:
        time.sleep(0.005)
    with suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    found = study.processes(store)
    wanted, number = (
        ("scheduler", signal.SIGSTOP) if victim == "stopped" else (victim, signal.SIGKILL)
    )
    chosen = [pid for pid, role in found.items() if wanted in (role, "all")]
    if victim != "all":
        chosen = [chance.choice(sorted(chosen))] if chosen else []
    for pid in chosen:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(chosen)


def _all_done(store: Path) -> bool:
    paths = StorePaths(store)
    keys = [key for each in current_studies(paths) for key in each.stages]
    return bool(keys) and all(paths.stage(key).result.exists() for key in keys)


def _log_sizes(store: Path) -> list[int]:
    sizes = []
    for path in sorted(store.glob("stages/*/events.jsonl")):
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sizes
