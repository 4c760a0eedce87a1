"""`python -m prunectl.bench.child`: one warm contender, which does a round and prints its seconds per line it reads."""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Serve rounds. The argument is JSON: contender, work, options."""
    import torch

    from prunectl.bench.baselines import CONTENDERS
    from prunectl.bench.workload import from_json

    arguments = json.loads(sys.argv[1])
    work = from_json(arguments["work"])
    torch.set_num_threads(1)
    do_round = CONTENDERS[arguments["contender"]](work, arguments["options"])

    def timed() -> float:
        started = time.perf_counter()
        do_round()
        if work.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    timed()  # the first one also warms up
    print(json.dumps("ready"), flush=True)
    for _ in iter(sys.stdin.readline, ""):
        print(json.dumps(timed()), flush=True)


if __name__ == "__main__":
    main()
