"""`python -m prunectl.bench.card.faulty_worker`: a worker of which a kernel faults once, as a bug in a kernel would.

The first process that can create the file FAULT_ONCE reads beyond the end of a tensor on the device at its
`FAULT_AT`-th step. CUDA reports that later, and refuses everything from then on.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

from prunectl.ml.training.trainer import Trainer
from prunectl.worker.__main__ import main

FAULT_AT = 300
"""Steps: within a stage, after others."""
FILE = "PRUNECTL_FAULT_ONCE"


def install() -> None:
    """Let the step fault."""
    done = 0
    advance = Trainer._advance

    def counting(self: Trainer, *arguments: Any) -> None:
        nonlocal done
        done += 1
        if done == FAULT_AT:
            with contextlib.suppress(FileExistsError):
                Path(os.environ[FILE]).touch(exist_ok=False)
                read_beyond_the_end(self.device)
        advance(self, *arguments)

    Trainer._advance = counting  # type: ignore[assignment, method-assign]


def read_beyond_the_end(device: torch.device) -> None:
    """Launch a kernel that asserts its indices, with one that is too large."""
    values = torch.zeros(8, device=device)
    values[torch.full((4,), 1 << 20, device=device)]


if __name__ == "__main__":
    install()
    main()
