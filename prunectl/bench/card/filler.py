"""`python -m prunectl.bench.card.filler DEVICE BYTES`: holds all memory of a device but so many bytes, until killed.

It prints a line once it does.
"""

from __future__ import annotations

import contextlib
import signal
import sys

import torch

PIECES = (1 << 30, 64 << 20, 4 << 20)
"""Bytes taken at a time, ever less."""


def main() -> None:
    """Take the memory, and wait for the end."""
    device, spared = sys.argv[1], int(sys.argv[2])
    held = []
    for piece in PIECES:
        with contextlib.suppress(torch.OutOfMemoryError):
            while torch.cuda.mem_get_info(device)[0] - piece >= spared:
                held.append(torch.empty(piece, dtype=torch.uint8, device=device))
    print(f"{sum(map(len, held))} bytes held", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
