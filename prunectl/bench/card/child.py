"""`python -m prunectl.bench.card.child ORDER`: does one part of a step and prints its outcome as a line of JSON."""

from __future__ import annotations

import os
import sys

from prunectl.bench.card.records import Order
from prunectl.bench.card.steps import all_steps
from prunectl.store.records.base import decode, encode


def main() -> None:
    """Do the part that the argument, an `Order` as JSON, names."""
    # stdout is for the outcome; whatever a library prints goes to stderr.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    order = decode(sys.argv[1], Order, "the argument")
    step = next(step for step in all_steps() if step.name == order.step)
    print(encode(step.run(order)).decode(), file=out, flush=True)


if __name__ == "__main__":
    main()
