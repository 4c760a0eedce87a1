"""A record of the learning rates that steps really used, read from the tensor they used them from."""

from __future__ import annotations

from torch import Tensor

ROOM = 1024
"""Changes recorded on the device between two readings."""


class LrLog:
    """Copies the rate on the device whenever it has been changed, so that nothing waits; the host reads it later."""

    def __init__(self, lr: Tensor) -> None:
        self._lr = lr
        self._values = lr.new_zeros(ROOM)
        self._steps: list[int] = []
        self._runs: list[tuple[int, float]] = []
        self._last: float | None = None

    def changed(self, step: int) -> None:
        """Record that the rate has just been set for step number `step`, in the device's order."""
        if len(self._steps) == len(self._values):
            self._read()
        self._values[len(self._steps)].copy_(self._lr)
        self._steps.append(step)

    def restart(self) -> None:
        """Forget everything: the next change is reported whatever it is."""
        self._steps, self._runs, self._last = [], [], None

    def take(self) -> list[tuple[int, float]]:
        """Return the changes since the last call, as (step, rate): the rate holds from that step on.

        Rates are float32; given is the shortest decimal that rounds to each, so that 0.1 is 0.1.
        """
        self._read()
        runs, self._runs = self._runs, []
        return runs

    def _read(self) -> None:
        if not self._steps:
            return
        values = self._values[: len(self._steps)].cpu().numpy()
        for step, value in zip(self._steps, values, strict=True):
            lr = float(str(value))
            if lr != self._last:
                self._runs.append((step, lr))
                self._last = lr
        self._steps = []
