"""Step `memory`: what happens where a card's memory runs out, at any allocation, and to whoever shares the card."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from prunectl.bench.baselines import images_of
from prunectl.bench.card import studies
from prunectl.bench.card.records import Check, Figure, Order, Outcome
from prunectl.bench.card.training import Training, cifar_work, same
from prunectl.bench.records import Work
from prunectl.bench.rounds import BenchError
from prunectl.bench.workload import plan_text
from prunectl.child import module_command
from prunectl.ml.datasets.images import Images
from prunectl.ml.training.state import TrainingState
from prunectl.scheduler.parent_death import dies_with_us
from prunectl.store.paths import StorePaths
from prunectl.store.records.events import Failed, read_events
from prunectl.worker.failures import reason

LIMITS = 24
"""Amounts of memory at which an allocation is made to fail, from none to all that a training takes."""
STEPS = 8
"""Of the neighbour beside each attempt, and of the attempt itself."""
WIDE = Work("wrn-16-8", (3, 32, 32), train=2_048, test=500, epochs=2, batch=512)
"""Stages that take several GB: 268 MB for each of the widest activations."""
QUICK_WIDE = Work("resnet-20", (3, 32, 32), train=1_024, test=200, epochs=2, batch=512)
SPARED = 2 << 30
"""Bytes that a filled card has left: for a worker's context and its libraries, and not for such a stage."""
QUICK_SPARED = 700 << 20


def run(order: Order) -> Outcome:
    """Do one part."""
    return limits(order) if order.part == "limits" else filled(order)


# --- an allocation that fails, in this process ----------------------------------------------------


def limits(order: Order) -> Outcome:
    """Start a training with ever more memory beside another, which must not notice, and then with enough."""
    work = cifar_work(order, "resnet-20")
    images, steps = images_of(work), STEPS * (LIMITS + 1)

    def begun(seed: int) -> Training:
        return Training(work, seed, images=images)

    alone, before = finished(begun(0), steps), torch.cuda.memory_reserved(order.device)
    torch.cuda.reset_peak_memory_stats(order.device)
    second = finished(begun(1), STEPS)
    needed = torch.cuda.max_memory_reserved(order.device) - before
    neighbour = begun(0)
    ends: Counter[str] = Counter()
    for number in range(LIMITS):
        neighbour.advance(STEPS)
        with at_most(order.device, needed * number // LIMITS):
            ends[attempt(work, images)] += 1
        release()
    neighbour.advance(STEPS)
    after = finished(begun(1), STEPS)
    found = ", ".join(f"{count} × {how}" for how, count in ends.most_common())
    return Outcome(
        (
            Check("memory ran out at the first limits", ends["out of memory"] > 0, found),
            Check("nothing else went wrong", set(ends) <= {"out of memory", "enough"}, found),
            Check("the neighbour has the bits of one alone", same(alone, neighbour.state())),
            Check("the same training afterwards has the bits of one alone", same(second, after)),
        ),
        (Figure("memory that a training takes", needed / 2**20, "MiB"),),
    )


def finished(training: Training, steps: int) -> TrainingState:
    """Train so many steps, free the trainer, return its state."""
    training.advance(steps)
    state = training.state()
    training.trainer.close()
    release()
    return state


def release() -> None:
    """Give what nothing uses back to the device."""
    gc.collect()
    torch.cuda.empty_cache()


@contextlib.contextmanager
def at_most(device: str, more: int) -> Iterator[None]:
    """Let this process take at most so many bytes more than it has."""
    total = torch.cuda.get_device_properties(device).total_memory
    allowed = torch.cuda.memory_reserved(device) + more
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def attempt(work: Work, images: Images) -> str:
    """Train with the memory there is, on images that are on the device already. Returns how that ended."""
    try:
        training = Training(work, seed=1, images=images)
        training.advance(STEPS)
        notes = training.trainer.notes()
        training.trainer.close()
    except Exception as error:
        if reason(error, work.device) == "oom":
            return "out of memory"
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return notes[0] if notes else "enough"


# --- a card that others fill ----------------------------------------------------------------------


def filled(order: Order) -> Outcome:
    """Run a study on a card that another process has filled, until a stage has failed for it."""
    work, spared = (QUICK_WIDE, QUICK_SPARED) if order.quick else (WIDE, SPARED)
    with studies.another(order) as folder:
        plan = Path(folder, "wide.toml")
        plan.write_text(plan_text(work, studies.SEEDS, 1), encoding="utf-8")
        whole = studies.finish(plan, Path(folder, "whole"), order.device, "--slots", "1")
        store = Path(folder, "beside")
        with filler(order.device, spared):
            process = studies.start(plan, store, order.device, "--slots", "2")
            while not out_of_memory(StorePaths(store)) and process.poll() is None:
                time.sleep(0.01)
        found = studies.ended(process, store)
        failed = out_of_memory(found)
        return Outcome(
            (
                Check("a stage ran out of memory", failed > 0, f"{failed} attempts"),
                studies.same_bits(whole, found),
            )
        )


@contextlib.contextmanager
def filler(device: str, spared: int) -> Iterator[None]:
    """Hold the device's memory but so many bytes. Raises BenchError where that cannot be had."""
    command = module_command("prunectl.bench.card.filler")
    with subprocess.Popen(
        dies_with_us([*command, device, str(spared)]),
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
    ) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise BenchError("the card's memory could not be filled")
            yield
        finally:
            process.kill()


def out_of_memory(store: StorePaths) -> int:
    """Count the attempts that ended for lack of memory."""
    logs = store.stages.glob("*/events.jsonl")
    records = (each for log in logs for each in read_events(log).records)
    return sum(isinstance(each, Failed) and each.reason == "oom" for each in records)
