"""Step `resume`: a run that is killed with kill -9 and started again comes to the same bits."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

import psutil

from prunectl.bench.card import studies
from prunectl.bench.card.records import Check, Figure, Order, Outcome
from prunectl.bench.rounds import BenchError

KILLS = 2
"""A stage has three attempts."""
PATIENCE = 120.0
"""Seconds until a run has written a checkpoint: it imports torch and starts CUDA first."""


def run(order: Order) -> Outcome:
    """Run the study whole, or kill its worker or its scheduler."""
    whole = studies.reference(order)
    if order.part == "whole":
        return Outcome((Check("runs to its end", True, f"{len(studies.stages(whole))} stages"),))
    with studies.another(order) as folder:
        store = Path(folder, "store")
        plan, killed = studies.write_plan(order), 0
        options = ("--slots", "1", "--checkpoint-every", "0")
        process = studies.start(plan, store, order.device, *options)
        while killed < KILLS and _kill(order.part, process, store):
            killed += 1
            if order.part == "scheduler":
                process.wait()
                process = studies.start(plan, store, order.device, *options)
        found = studies.ended(process, store)
        return Outcome(
            (
                Check(f"the {order.part} was killed", killed > 0, f"{killed} times"),
                Check(
                    "stages went on from checkpoints",
                    studies.resumed(found) > 0,
                    f"{studies.resumed(found)} times",
                ),
                studies.same_bits(whole, found),
            ),
            (Figure("kills", killed, "times"),),
        )


def _kill(whom: str, process: subprocess.Popen[bytes], store: Path) -> bool:
    """Kill the worker or the scheduler once a stage has a checkpoint that it had not before.

    Returns whether that was done before the run ended. Raises BenchError where no checkpoint comes.
    """
    deadline = time.monotonic() + PATIENCE
    before = _checkpoints(store)
    while process.poll() is None:
        if _checkpoints(store) - before:
            with contextlib.suppress(psutil.NoSuchProcess):
                victims = [psutil.Process(process.pid)]
                if whom == "worker":
                    victims = [each for each in victims[0].children() if _is_worker(each)]
                for victim in victims:
                    victim.kill()
                if victims:
                    return True
        if time.monotonic() > deadline:
            raise BenchError(f"no checkpoint within {PATIENCE:g} s")
        time.sleep(0.002)
    return False


def _checkpoints(store: Path) -> set[tuple[str, int]]:
    """Return the stages that have a checkpoint, each with the time that it was written."""
    found = set()
    for path in store.glob("stages/*/latest.safetensors"):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.parent.name, path.stat().st_mtime_ns))
    return found


def _is_worker(process: psutil.Process) -> bool:
    return "prunectl.worker" in process.cmdline()
