"""`python -m tests.chaos`: the long forms of what the suite tests briefly."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.kills import Tally


def main() -> int:
    """Exit status 0 if nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--kills", type=int, default=0, help="random kills of real processes")
    parser.add_argument("--commands", metavar="NAME=N,…", help="of commands, or `all`")
    parser.add_argument("--jobs", type=int, default=1, help="commands that are killed at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--span", type=float, default=6.0, help="seconds in which a kill strikes")
    parser.add_argument("--writes", action="store_true", help="die before every write of a worker")
    parser.add_argument("--every", type=int, default=1, help="of those writes only every n-th")
    parser.add_argument("--short", action="store_true", help="a study of three stages")
    parser.add_argument("--scheduler-writes", metavar="N,N…", help="numbers of calls, or `all`")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from tests.chaos import commands, faults, kills, study

    problems: list[str] = []
    total = 0
    with tempfile.TemporaryDirectory(prefix="prunectl-chaos-") as name:
        folder = Path(name)
        os.environ["PRUNECTL_LEASES"] = str(folder / "leases")
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        study.write_plan(folder, options.short)
        reference = kills.whole(folder) if options.kills or options.scheduler_writes else None
        if options.kills and reference is not None:
            started = time.monotonic()
            tally = kills.rampage(
                folder, reference, options.kills, options.seed, options.span, say=_say
            )
            places = f"in {tally.studies} studies and {tally.attempts} starts"
            total += _tell("kills", tally, places, started)
            problems += tally.problems
        if options.commands:
            started = time.monotonic()
            shares = dict(commands.SHARES)
            if options.commands != "all":
                words = (word.split("=") for word in options.commands.split(","))
                shares = {name: int(number) for name, number in words}
            tally = commands.rampage(folder, shares, options.seed, say=_say, jobs=options.jobs)
            total += _tell("kills of commands", tally, f"{tally.late} more came too late", started)
            problems += tally.problems
        if options.writes:
            for twice in (False, True)[: 1 if options.short else 2]:
                place = folder / f"writes-{twice}"
                place.mkdir()
                deaths, said = faults.worker_deaths(place, options.every, twice)
                _say(f"{deaths} deaths of workers before their writes, fsyncs and renames")
                problems += said
        if options.scheduler_writes and reference is not None:
            chosen = options.scheduler_writes
            numbers = None if chosen == "all" else [int(word) for word in chosen.split(",")]
            deaths, said = faults.scheduler_deaths(folder, reference, numbers)
            _say(f"{deaths} deaths of schedulers before theirs")
            problems += said
    for problem in problems:
        print(problem)
    _say(f"{total} kills, {len(problems) or 'no'} problems")
    return 1 if problems else 0


def _tell(what: str, tally: Tally, more: str, started: float) -> int:
    """Say what was killed since a monotonic time. Returns how many that were."""
    count = sum(tally.kills.values())
    by = ", ".join(f"{number} {victim}" for victim, number in sorted(tally.kills.items()))
    _say(f"{count} {what} ({by}), {more}, {time.monotonic() - started:.0f} s")
    return count


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
