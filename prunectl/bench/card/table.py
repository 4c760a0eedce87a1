"""Step `table`: from a plain loop to fused graphs in slots, the rows of `bench train --device cuda --all`."""

from __future__ import annotations

from prunectl.bench.card.records import Order, Outcome
from prunectl.bench.card.steps import part_of
from prunectl.bench.card.timing import timed
from prunectl.bench.train import cuda_tables


def run(order: Order) -> Outcome:
    """Time one row with one network."""
    contenders = {
        part_of(each.work.network, each.label): each
        for table in cuda_tables(order.quick, order.device)
        for each in table
    }
    return timed(order, contenders[order.part])
