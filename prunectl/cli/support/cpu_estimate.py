"""Before a run on the CPU alone: whether it would take more than a day, estimated from a few timed steps.

Most plans are far from it, which their multiply-adds show in milliseconds. For the others a child process times some
steps of each workload, once: what it found is kept in the user's cache, under all that it depends on.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import typer

from prunectl.cli.support.background import on_terminal
from prunectl.cli.support.network_check import NetworkCheck, remembered
from prunectl.cli.support.terminal import narrate
from prunectl.errors import ExitCode, PrunectlError, StoreError
from prunectl.ml.datasets.files import data_root
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.graph import workload_of
from prunectl.scheduler.items import Workload
from prunectl.spec.key import to_json
from prunectl.spec.stage import Stage
from prunectl.store.files import write_text
from prunectl.store.records.base import NOT_DECODED, encode
from prunectl.text import duration
from prunectl.worker.step_time import COMMAND, StepTime

LONG = 86400.0
"""Seconds of a run that is asked about."""
SLOWEST = 2e9
"""Multiply-adds a second of a core, at the very least; ten times as many are usual. A plan that is no long one even so
needs no timing."""
OVERHEAD = 0.02
"""Seconds of a step beside them, at the most: two hundred small kernels."""
TIMING_SECONDS = 60.0
"""For one workload, its data included. Where no two steps are over by then, a step takes at least half of what the data
have left of it."""


@dataclass(frozen=True)
class CpuEstimate:
    """What is to be expected."""

    seconds: float
    steps: Mapping[Workload, float]
    """Seconds of a step, by workload."""
    at_least: bool
    """Some steps were not over in time."""
    slots: int

    @property
    def text(self) -> str:
        """Say it in a few lines."""
        more = "more than " if self.at_least else "about "
        timed = ", ".join(
            f"{network} on {data} {step:.2g} s a step"
            for (network, data, *_), step in self.steps.items()
        )
        return (
            f"without a CUDA device this run takes {more}{duration(self.seconds)}, by estimate\n"
            f"  from a few steps of each workload ({timed}) on {self.slots} slots of the CPU"
        )


def long_run(
    stages: Mapping[str, Stage], paths: Sequence[Sequence[str]], device: Device, data: Path
) -> CpuEstimate | None:
    """Estimate what these stages take on the CPU. Returns None where it is less than `LONG`, or cannot be known.

    Args:
        stages: those that are to run, by key.
        paths: of the trials: keys of stages that run one after the other.
        device: the CPU.
        data: folder of the data sets.
    """
    samples = {workload_of(stage): stage for stage in stages.values()}
    if _most(stages, samples, device.slots) < LONG:
        return None
    times = {workload: _time(stage, device, data) for workload, stage in samples.items()}
    known = {workload: found for workload, found in times.items() if found is not None}
    seconds = {
        key: _seconds(stage, known[workload_of(stage)])
        for key, stage in stages.items()
        if workload_of(stage) in known
    }
    longest = max((sum(seconds.get(key, 0.0) for key in path) for path in paths), default=0.0)
    total = max(longest, sum(seconds.values()) / device.slots)
    if total < LONG:
        return None
    steps = {workload: found.step for workload, found in known.items()}
    late = any(found.at_least for found in known.values())
    return CpuEstimate(total, steps, late, device.slots)


def _most(stages: Mapping[str, Stage], samples: Mapping[Workload, Stage], slots: int) -> float:
    """Return the seconds that the stages take at the most, by their multiply-adds."""
    with NetworkCheck() as check:
        macs = {workload: check(stage.network).macs for workload, stage in samples.items()}
    steps = (
        stage.steps * (3 * macs[workload_of(stage)] * stage.train.batch / SLOWEST + OVERHEAD)
        for stage in stages.values()
    )
    # With an evaluation of as many images after every epoch it is a third more.
    return 4 / 3 * sum(steps) / slots


def _seconds(stage: Stage, found: StepTime) -> float:
    every = stage.train.evaluate_every or stage.steps or 1
    return stage.steps * found.step + -(-stage.steps // every) * found.evaluation


def _time(stage: Stage, device: Device, data: Path) -> StepTime | None:
    """Return the times of the stage's workload; None where they cannot be had: the run itself will say why."""
    content = to_json([stage.network, stage.train, stage.data]), device.name
    with contextlib.suppress(OSError, RuntimeError, *NOT_DECODED):
        return msgspec.json.decode(remembered("step-times", *content).read_bytes(), type=StepTime)
    try:
        done = subprocess.run(
            [*COMMAND, str(data)],
            input=encode(stage),
            env={**os.environ, **device.environment()},
            capture_output=True,
            timeout=TIMING_SECONDS,
            check=False,
        )
        found = msgspec.json.decode(done.stdout.partition(b"\n")[2], type=StepTime)
    except subprocess.TimeoutExpired as late:
        return _at_least(late.stdout or b"")
    except (OSError, *NOT_DECODED):
        return None
    with contextlib.suppress(StoreError, RuntimeError):
        write_text(remembered("step-times", *content), encode(found).decode())
    return found


def _at_least(said: bytes) -> StepTime | None:
    """Return the least that a step takes, of a child that had said so much when its time was over."""
    try:
        begun = float(said)
    except ValueError:  # it was still reading the data
        return None
    return StepTime((time.time() - begun) / 2, 0.0, at_least=True)


def ask_before_long_run(
    todo: Mapping[str, Stage],
    trials: Sequence[Sequence[str]],
    devices: Sequence[Device],
    data: Path | None,
) -> None:
    """Ask before more than a day on the CPU alone. Exits with 2 where the user says no.

    `trials` are their paths. Raises PrunectlError where nobody can be asked.
    """
    if any(device.kind != "cpu" for device in devices):
        return
    estimate = long_run(todo, trials, devices[0], data_root(data))
    if estimate is None:
        return
    if not on_terminal():
        raise PrunectlError(f"{estimate.text}\n  to start it all the same: --yes")
    narrate(estimate.text)
    if not typer.confirm("start it all the same?", err=True):
        narrate("nothing was queued")
        raise typer.Exit(ExitCode.USAGE)
