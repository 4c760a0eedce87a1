"""Contenders take turns, and their times are compared. Free of torch: contenders are processes."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TypeVar

from msgspec.structs import replace

from prunectl.bench.records import Kind, Load, Options, Ready, RoundDone, Row, Start, Work
from prunectl.errors import PrunectlError
from prunectl.store.records.base import decode, encode

Answer = TypeVar("Answer", Ready, RoundDone)


class BenchError(PrunectlError):
    """A contender ended before it was done."""


@dataclass(frozen=True)
class Contender:
    """One way of doing the work."""

    label: str
    kind: Kind
    work: Work
    options: Options = field(default_factory=Options)


def one_thread() -> dict[str, str]:
    """Return an environment in which a process's libraries use one thread, as prunectl's workers do."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Child:
    """A contender's process."""

    contender: Contender
    stdin: IO[str]
    stdout: IO[str]
    stderr: IO[str]
    """A file."""

    def answer(self, kind: type[Answer]) -> Answer:
        """Read the next line it writes. Raises BenchError where there is none, BadRecord where it is no such answer."""
        line = self.stdout.readline()
        if not line:
            self.stderr.seek(0)
            last = self.stderr.read().strip().splitlines()[-1:] or ["no message"]
            raise BenchError(f"{self.contender.label} failed: {last[0]}")
        return decode(line, kind, f"what {self.contender.label} wrote")

    def begin(self) -> None:
        """Begin a round, without waiting for its end."""
        self.stdin.write("go\n")
        self.stdin.flush()

    def round(self) -> float:
        """Do one round. Returns its seconds."""
        self.begin()
        return self.answer(RoundDone).seconds


@contextlib.contextmanager
def running(contender: Contender) -> Iterator[Child]:
    """Start a contender's process, with a folder of its own, and end it."""
    with (
        tempfile.TemporaryDirectory(prefix="prunectl-bench-") as folder,
        tempfile.TemporaryFile("w+", errors="replace") as stderr,
    ):
        options = replace(contender.options, folder=folder)
        start = Start(contender.kind, contender.work, options)
        with subprocess.Popen(
            [sys.executable, "-m", "prunectl.bench.child", encode(start).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            # Deterministic cuBLAS, as workers have it; it is read only when a process starts.
            env={**one_thread(), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield Child(contender, process.stdin, process.stdout, stderr)
            finally:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    process.stdin.close()  # it ends then, and the processes it has with it
                    process.wait(timeout=20)
                process.kill()


def measure(contenders: Sequence[Contender], rounds: int, tell: Callable[[str], None]) -> list[Row]:
    """Time the contenders in turns, and compare each with the first. Raises BenchError."""
    times = timings(contenders, rounds, tell)
    first = times[contenders[0].label]
    return [compared(label, values, first) for label, values in times.items()]


def timings(
    contenders: Sequence[Contender], rounds: int, tell: Callable[[str], None]
) -> dict[str, list[float]]:
    """Return seconds per epoch of each contender in each round; the order of turns goes back and forth."""
    times: dict[str, list[float]] = {contender.label: [] for contender in contenders}
    with ExitStack() as stack:
        children = [stack.enter_context(running(contender)) for contender in contenders]
        for child in children:
            tell(f"{child.contender.work.network}: {child.contender.label} warms up")
            child.answer(Ready)
        for number in range(rounds):
            # Back and forth: a machine that grows slower within a round is no contender's fault.
            for child in children if number % 2 == 0 else children[::-1]:
                epochs = child.contender.work.epochs * child.contender.options.slots
                times[child.contender.label].append(child.round() / epochs)
    return times


def compared(label: str, values: Sequence[float], first: Sequence[float]) -> Row:
    """Compare times of the same rounds, as a ratio."""
    ratio, low, high = interval([b / a for a, b in zip(first, values, strict=True)])
    return Row(
        label,
        seconds=statistics.median(values),
        fastest=min(values),
        slowest=max(values),
        ratio=ratio,
        low=low,
        high=high,
        rounds=len(values),
    )


def interval(ratios: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the geometric mean of ratios and its 95 % interval, by Student's t on their logarithms; a single ratio
    has none."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), None, None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def load() -> Load:
    """Return how many processes ran or waited, on average over 1, 5 and 15 minutes: how quiet the machine was."""
    one, five, fifteen = os.getloadavg()
    return round(one, 2), round(five, 2), round(fifteen, 2)
