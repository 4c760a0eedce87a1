"""Step `overlap`: whether copies from pinned memory run beside kernels."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from prunectl.bench.card.records import Figure, Order, Outcome

BYTES = 256 << 20
SIDE = 4096
"""Of the matrices that are multiplied meanwhile."""
TURNS = 8


def run(order: Order) -> Outcome:
    """Time copies, products, and both on two streams."""
    scale = 16 if order.quick else 1
    device = torch.device(order.device)
    here = torch.empty(BYTES // scale, dtype=torch.uint8).pin_memory()
    there = torch.empty(BYTES // scale, dtype=torch.uint8, device=device)
    matrix = torch.zeros(SIDE // scale, SIDE // scale, device=device)
    streams = [torch.cuda.Stream(device) for _ in range(2)]  # type: ignore[no-untyped-call]

    def copy() -> None:
        with torch.cuda.stream(streams[0]):
            there.copy_(here, non_blocking=True)

    def multiply() -> None:
        with torch.cuda.stream(streams[1]):
            torch.mm(matrix, matrix)

    copies, products = (seconds(each, TURNS) for each in (copy, multiply))
    # As many products as take the time of the copies.
    number = max(1, min(1000, round(TURNS * copies / products))) if products > 0 else 1

    def both() -> None:
        for _ in range(TURNS):
            copy()
        for _ in range(number):
            multiply()

    together = seconds(both, 1)
    alone = [seconds(copy, TURNS), seconds(multiply, number)]
    share = (sum(alone) - together) / min(alone) if min(alone) > 0 else float("nan")
    return Outcome(
        figures=(
            Figure("pinned memory to the card", TURNS * len(here) / alone[0] / 1e9, "GB/s"),
            Figure("of the shorter hidden behind the longer", 100 * share, "%"),
        )
    )


def seconds(work: Callable[[], None], turns: int) -> float:
    """Time so many turns, to the end on the device; the second time, when everything is warm."""
    found = 0.0
    for _ in range(2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(turns):
            work()
        torch.cuda.synchronize()
        found = time.perf_counter() - started
    return found
