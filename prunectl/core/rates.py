"""A record of the learning rates that steps really used, read from the tensor they used them from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ROOM = 1024
"""Steps recorded on the device between two readings."""


class RateLog:
    """Notes the rate of every step on the device, so that nothing waits; the host reads it in long stretches."""

    def __init__(self, rate: Tensor) -> None:
        self._rate = rate.view(1)
        self._values = rate.new_zeros(ROOM)
        self._places = torch.arange(ROOM, device=rate.device)
        self._next = torch.zeros(1, dtype=torch.int64, device=rate.device)
        self._noted = 0
        self._first = 0
        self._runs: list[tuple[int, float]] = []
        self._last: float | None = None

    def note(self) -> None:
        """Part of the step: write down the rate as it is now (a choice, not an indexed write: those are slow where
        kernels must be deterministic)."""
        torch.where(self._places == self._next, self._rate, self._values, out=self._values)
        self._next.add_(1)

    def counted(self) -> None:
        """The host's side of `note`."""
        self._noted += 1
        if self._noted == ROOM:
            self._read()

    def restart(self, step: int) -> None:
        """The next step noted is number `step`, and its rate is reported whatever it is."""
        self._next.zero_()
        self._noted, self._first, self._last = 0, step, None
        self._runs = []

    def take(self) -> list[tuple[int, float]]:
        """The changes since the last taking, as (step, rate): the rate holds from that step on.

        Rates are float32; given is the shortest decimal that rounds to each, so that 0.1 is 0.1.
        """
        self._read()
        runs, self._runs = self._runs, []
        return runs

    def _read(self) -> None:
        values = self._values[: self._noted].cpu().numpy()
        changes = np.flatnonzero(np.diff(values)) + 1
        for index in [0, *changes.tolist()] if len(values) else []:
            rate = float(str(values[index]))
            if rate != self._last:
                self._runs.append((self._first + index, rate))
                self._last = rate
        self._next.zero_()
        self._first += self._noted
        self._noted = 0
