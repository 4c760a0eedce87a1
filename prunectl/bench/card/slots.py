"""Step `slots`: stages side by side on one card come to the bits of stages one after another."""

from __future__ import annotations

import time
from pathlib import Path

from prunectl.bench.card import studies
from prunectl.bench.card.records import Figure, Order, Outcome


def run(order: Order) -> Outcome:
    """Run the study in so many slots, and compare it with one slot's."""
    whole, (slots, _, by) = studies.reference(order), order.part.partition("-")
    with studies.another(order) as folder:
        started = time.monotonic()
        store = studies.finish(
            studies.write_plan(order),
            Path(folder, "store"),
            order.device,
            *("--slots", slots, "--slots-by", by or "streams"),
        )
        seconds = time.monotonic() - started
        return Outcome(
            (studies.same_bits(whole, store),), (Figure("study, start included", seconds, "s"),)
        )
