"""Step `packing`: trainings side by side on one card, on streams of one process or as a process each."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

from prunectl.bench.card.records import Order, Outcome
from prunectl.bench.card.timing import figures, rounds, timed
from prunectl.bench.card.training import cifar_work
from prunectl.bench.records import Options, Ready, RoundDone
from prunectl.bench.rounds import BenchError, Contender, running

CONTROL = "nvidia-cuda-mps-control"


def run(order: Order) -> Outcome:
    """Time so many trainings in one way."""
    how, _, count = order.part.partition("-")
    work = cifar_work(order, "resnet-20")
    if how == "streams":
        label = f"{count} on streams of one process"
        return timed(order, Contender(label, "trainer", work, Options(slots=int(count))))
    label = f"{count} as a process each{', under MPS' if how == 'mps' else ''}"
    contender = Contender(label, "trainer", work)

    def processes() -> Outcome:
        return Outcome(figures=figures(label, side_by_side(contender, int(count), rounds(order))))

    return under_mps(processes) if how == "mps" else processes()


def under_mps(work: Callable[[], Outcome]) -> Outcome:
    """Do the work under MPS; where that is not to be had, say so: no fault of ours."""
    if shutil.which(CONTROL) is None:
        return Outcome(skipped=f"there is no {CONTROL} here")
    try:
        with mps():
            return work()
    except (subprocess.CalledProcessError, BenchError) as error:
        return Outcome(skipped=f"MPS does not work here: {error}")


def side_by_side(contender: Contender, count: int, turns: int) -> list[float]:
    """Time processes that do a round each at the same time. Returns seconds per epoch and process of each turn."""
    found = []
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(running(contender)) for _ in range(count)]
        for child in children:
            child.answer(Ready)
        for _ in range(turns):
            started = time.perf_counter()
            for child in children:
                child.begin()
            for child in children:
                child.answer(RoundDone)
            seconds = time.perf_counter() - started
            found.append(seconds / (count * contender.work.epochs))
    return found


@contextlib.contextmanager
def mps() -> Iterator[None]:
    """Run the MPS daemon, which this process's children use. Raises CalledProcessError where it does not start."""
    with tempfile.TemporaryDirectory(prefix="prunectl-mps-") as folder:
        os.environ |= {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        subprocess.run([CONTROL, "-d"], check=True, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            subprocess.run([CONTROL], input="quit\n", text=True, check=False)
