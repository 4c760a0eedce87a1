"""Many schedules: run side by side, added up over any number of calls, kept where a call is cut off."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

import prunectl
from prunectl.bench.rounds import BenchError
from prunectl.child import module_command
from prunectl.errors import StoreError
from prunectl.scheduler.devices.cpu import CpuLayer
from prunectl.store.records.base import decode, encode, read_record, write_record
from prunectl.version import __version__, code_hash

BLOCK = 25
"""Schedules that a process runs between two reports: about a second."""
ROOMS = ("scheduler", "store", "spec", "bench/simulation")
"""Of the package: another content makes other schedules of the same seeds."""

Counted = TypeVar("Counted", int, float)


class Broken(msgspec.Struct, frozen=True):
    """A schedule in which something that must be true was not."""

    seed: int
    violation: str


class Block(msgspec.Struct, frozen=True):
    """What the schedules of a block came to."""

    number: Annotated[int, Meta(description="of the block: its first seed is so many blocks on")]
    checks: Annotated[int, Meta(description="times that everything was checked")] = 0
    hours: Annotated[float, Meta(description="of the simulated worlds")] = 0.0
    cpu_seconds: float = 0.0
    faults: Annotated[dict[str, int], Meta(description="how often what befell them")] = {}
    broken: tuple[Broken, ...] = ()


class Tally(msgspec.Struct, kw_only=True):
    """What all schedules of one version came to."""

    version: Annotated[str, Meta(description="of prunectl, and digits of its content")] = ""
    complete: Annotated[int, Meta(description="blocks from the first on without a gap")] = 0
    beyond: Annotated[list[int], Meta(description="further blocks")] = []
    checks: int = 0
    hours: float = 0.0
    cpu_seconds: float = 0.0
    seconds: Annotated[float, Meta(description="that calls have taken")] = 0.0
    faults: dict[str, int] = {}
    broken: list[Broken] = []

    @property
    def schedules(self) -> int:
        """Return how many schedules were run."""
        return BLOCK * (self.complete + len(self.beyond))

    def add(self, block: Block) -> None:
        """Add a block, in any order."""
        self.beyond = sorted({*self.beyond, block.number})
        while self.beyond and self.beyond[0] == self.complete:
            self.complete += 1
            del self.beyond[0]
        self.checks += block.checks
        self.hours += block.hours
        self.cpu_seconds += block.cpu_seconds
        self.faults = {
            kind: self.faults.get(kind, 0) + block.faults.get(kind, 0)
            for kind in sorted(self.faults.keys() | block.faults.keys())
        }
        self.broken = sorted([*self.broken, *block.broken], key=lambda each: each.seed)

    def missing(self) -> Iterator[int]:
        """Yield the numbers of the blocks that are still to run."""
        done, number = set(self.beyond), self.complete
        while True:
            if number not in done:
                yield number
            number += 1


def simulated_version() -> str:
    """Return the version, and digits that change with the code that schedules are made of."""
    package = Path(prunectl.__file__).parent
    return f"{__version__} {code_hash(*(package / room for room in ROOMS))[:8]}"


def read_tally(path: Path) -> Tally:
    """Read what was added up before; an empty one where that was another version's, or cannot be read."""
    try:
        found = read_record(path, Tally)
    except (OSError, StoreError):
        found = Tally()
    return found if found.version == simulated_version() else Tally(version=simulated_version())


def run(
    path: Path,
    schedules: int | None,
    seconds: float | None,
    tell: Callable[[Tally], None],
) -> Tally:
    """Run schedules until there are so many in all, or for so many seconds; the tally at `path` grows with each block.

    `tell` is called with it every few seconds.
    """
    tally = read_tally(path)
    cores = CpuLayer().devices()[0].slots
    started = last = time.monotonic()
    before = tally.seconds
    lock = threading.Lock()
    numbers = tally.missing()

    def next_block() -> int | None:
        with lock:
            if seconds is not None and time.monotonic() - started >= seconds:
                return None
            number = next(numbers)
            if schedules is not None and number * BLOCK >= schedules:
                return None
            return number

    def take(block: Block) -> None:
        nonlocal last
        with lock:
            tally.add(block)
            now = time.monotonic()
            tally.seconds = before + now - started
            if now - last >= 5.0:
                last = now
                write_record(path, tally)
                tell(tally)

    with ThreadPoolExecutor(cores) as pool:
        for done in [pool.submit(_drive, next_block, take) for _ in range(cores)]:
            done.result()
    write_record(path, tally)
    return tally


def _drive(next_block: Callable[[], int | None], take: Callable[[Block], None]) -> None:
    """Run blocks in one process after another's end."""
    command = module_command("prunectl.bench.simulation.tally")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=_environment()) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        while (number := next_block()) is not None:
            child.stdin.write(f"{number}\n".encode())
            child.stdin.flush()
            line = child.stdout.readline()
            if not line:
                raise BenchError(f"a process that ran block {number} of schedules is gone")
            take(decode(line, Block, "a block of schedules"))


def replay(seed: int) -> int:
    """Tell one schedule line by line. Returns 1 where something that must be true was not."""
    command = [*module_command("prunectl.bench.simulation.replay"), str(seed)]
    return subprocess.run(command, env=_environment(), check=False).returncode


def _environment() -> dict[str, str]:
    """Return the environment in which sets have the same order every time, and a seed the same schedule."""
    return {**os.environ, "PYTHONHASHSEED": "0"}


def default_path() -> Path:
    """Return the file that calls add up in."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "prunectl" / "simulate.json"


def run_block(number: int) -> Block:
    """Run the schedules of a block."""
    from prunectl.bench.simulation.schedule import Schedule

    used = time.process_time()
    outcomes = [Schedule(seed).run() for seed in range(number * BLOCK, (number + 1) * BLOCK)]
    faults: dict[str, int] = {}
    for outcome in outcomes:
        for kind, count in outcome.faults.items():
            faults[kind] = faults.get(kind, 0) + count
    broken = (Broken(each.seed, each.violation) for each in outcomes if each.violation)
    return Block(
        number,
        checks=sum(each.checks for each in outcomes),
        hours=sum(each.seconds for each in outcomes) / 3600,
        cpu_seconds=time.process_time() - used,
        faults=faults,
        broken=tuple(broken),
    )


def main() -> None:
    """Run the block of each line that comes."""
    for line in sys.stdin:
        sys.stdout.buffer.write(encode(run_block(int(line))) + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
