"""Contenders take turns, and their times are compared. Free of torch: contenders are processes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

from prunectl.bench.workload import Work
from prunectl.errors import PrunectlError


class BenchError(PrunectlError):
    """A contender ended before it was done."""


@dataclass(frozen=True)
class Contender:
    """One way of doing the work; `kind` is its name in `baselines.CONTENDERS`."""

    label: str
    kind: str
    work: Work
    options: Mapping[str, Any] = field(default_factory=dict)
    lanes: int = 1
    """Epochs side by side in one round."""

    @property
    def epochs(self) -> int:
        """Epochs trained in a round."""
        return self.work.epochs * self.lanes


def one_thread() -> dict[str, str]:
    """Return an environment in which a process's libraries use one thread, as prunectl's workers do."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Child:
    """A contender's process."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self._folder = tempfile.TemporaryDirectory(prefix="prunectl-bench-")
        arguments = {
            "contender": contender.kind,
            "work": contender.work.to_json(),
            "options": {**contender.options, "folder": self._folder.name},
        }
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (__exit__)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prunectl.bench.child", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**one_thread(), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def answer(self) -> Any:
        """Read the next line it writes, as JSON. Raises BenchError where there is none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self._stderr.seek(0)
            last = self._stderr.read().strip().splitlines()[-1:] or ["no message"]
            raise BenchError(f"{self.contender.label} failed: {last[0]}")
        return json.loads(line)

    def round(self) -> float:
        """Do one round. Returns its seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.answer())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.stdin.close()  # it ends then, and the processes it has with it
            self.process.wait(timeout=20)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._stderr.close()
        self._folder.cleanup()


@dataclass(frozen=True)
class Measured:
    """A contender's rounds against the first one's of the same rounds."""

    label: str
    seconds: float
    """Median per epoch (of the work's images)."""
    fastest: float
    slowest: float
    ratio: float
    """How many times the first contender's time: geometric mean over rounds."""
    low: float
    high: float
    """95 % interval of the ratio, by Student's t on its logarithm; NaN of a single round."""
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields with null for NaN, which JSON does not have."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


def measure(
    contenders: Sequence[Contender], rounds: int, tell: Callable[[str], None]
) -> list[Measured]:
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
        children = [stack.enter_context(Child(contender)) for contender in contenders]
        for child in children:
            tell(f"{child.contender.work.network}: {child.contender.label} warms up")
            child.answer()
        for number in range(rounds):
            for child in children if number % 2 == 0 else children[::-1]:
                times[child.contender.label].append(child.round() / child.contender.epochs)
    return times


def compared(label: str, values: Sequence[float], first: Sequence[float]) -> Measured:
    """Compare times of the same rounds, as a ratio."""
    ratio, low, high = interval([b / a for a, b in zip(first, values, strict=True)])
    return Measured(
        label,
        statistics.median(values),
        min(values),
        max(values),
        ratio,
        low,
        high,
        len(values),
    )


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of ratios and its 95 % interval, by Student's t on their logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), math.nan, math.nan
    from scipy.stats import t

    half = float(t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def load() -> list[float]:
    """Return how many processes ran or waited, on average over 1, 5 and 15 minutes: how quiet the machine was."""
    return [round(value, 2) for value in os.getloadavg()]
