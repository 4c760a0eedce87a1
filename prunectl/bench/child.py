"""`python -m prunectl.bench.child`: one contender, warm; a round for every line it reads, its seconds on a line."""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """The argument is JSON: contender, work, options."""
    import torch

    from prunectl.bench.baselines import CONTENDERS
    from prunectl.bench.workload import from_json

    said = json.loads(sys.argv[1])
    work = from_json(said["work"])
    torch.set_num_threads(1)
    go = CONTENDERS[said["contender"]](work, said["options"])

    def timed() -> float:
        started = time.perf_counter()
        go()
        if work.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    timed()  # the first one also warms up
    print(json.dumps("ready"), flush=True)
    for _ in iter(sys.stdin.readline, ""):
        print(json.dumps(timed()), flush=True)


if __name__ == "__main__":
    main()
