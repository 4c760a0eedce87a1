"""`python -m prunectl.worker`: started by the scheduler, one process per device or CPU core."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Serve stages until the scheduler says stop or is gone."""
    parser = argparse.ArgumentParser(prog="python -m prunectl.worker")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--checkpoint-every", type=float, default=60.0)
    parser.add_argument("--fuse", action="store_true", help="fuse kernels with torch.compile")
    options = parser.parse_args()
    # The protocol owns the real stdout; whatever a library prints goes to the log.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Ctrl-C in the terminal goes to the whole process group; the scheduler answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    from prunectl.store.paths import StorePaths
    from prunectl.worker.main import Worker
    from prunectl.worker.trainer_cache import TrainerCache

    keep = max(2, options.slots)
    paths = StorePaths(options.store)
    trainers = TrainerCache(options.data, options.device, keep, fuse=options.fuse, store=paths)
    Worker(paths, trainers, options.checkpoint_every, out).serve()


if __name__ == "__main__":
    main()
