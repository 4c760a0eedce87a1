"""`python -m prunectl.bench.child`: one warm contender, which does a round per line it reads."""

from __future__ import annotations

import sys
import time

from prunectl.bench.records import Ready, RoundDone, Start
from prunectl.store.records.base import decode, encode


def main() -> None:
    """Serve rounds. The argument is a `Start` as JSON; `Ready` and then a `RoundDone` per round are printed."""
    import torch

    from prunectl.bench.baselines import CONTENDERS

    start = decode(sys.argv[1], Start, "the argument")
    torch.set_num_threads(1)
    do_round = CONTENDERS[start.contender](start.work, start.options)

    def timed() -> RoundDone:
        started = time.perf_counter()
        do_round()
        if start.work.device != "cpu":
            torch.cuda.synchronize()
        return RoundDone(time.perf_counter() - started)

    timed()  # the first one also warms up
    _say(Ready())
    for _ in iter(sys.stdin.readline, ""):
        _say(timed())


def _say(message: Ready | RoundDone) -> None:
    print(encode(message).decode(), flush=True)


if __name__ == "__main__":
    main()
