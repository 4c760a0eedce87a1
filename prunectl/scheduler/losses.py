"""Where the loss of workers belongs: to the worker, to the stage that it had, or to the device. Pure.

A CUDA error is sticky: whatever caused it, the process has lost its device for good, and all its stages with it. Only
what follows tells more. A device on which fresh workers keep being lost is broken. A stage that loses workers on a
device that does other stages well in between is to blame itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Literal

Place = Literal["worker", "stage", "device"]

MOST_FRESH = 3
"""Workers lost in a row, each before its first stage ended, after which their device counts as broken: once may be a
stage's fault, twice chance."""


class Losses:
    """Counts the workers that are lost, and the stages that devices do in between."""

    def __init__(self, retries: int) -> None:
        """A stage may lose `retries` workers, as it may fail; the next is its own failure."""
        self._retries = retries
        self._fresh: Counter[str] = Counter()
        """Fresh workers lost in a row, by device."""
        self._suspects: defaultdict[str, set[str]] = defaultdict(set)
        """Stages that lost a worker since a stage was last done, by device."""
        self._blamed: Counter[str] = Counter()
        """Workers that a stage lost on a device that was well: it did a stage afterwards."""

    def done(self, device: str) -> None:
        """Learn that a stage was done: the device is well."""
        self._fresh[device] = 0
        self._blamed.update(self._suspects.pop(device, ()))

    def lost(self, device: str, stage: str | None, *, fresh: bool, together: bool = False) -> Place:
        """Learn that a worker was lost. Returns what is to blame.

        Args:
            device: the worker's.
            stage: the one that it lost its device in; None where that is not known.
            fresh: no stage of the worker was done before.
            together: the worker was there when another one was lost, perhaps by the same event: it adds none to a row.
        """
        if stage is not None:
            if self._blamed[stage] >= self._retries:
                del self._blamed[stage]
                return "stage"
            self._suspects[device].add(stage)
        if not together:
            self._fresh[device] = self._fresh[device] + 1 if fresh else 0
        return "device" if self._fresh[device] >= MOST_FRESH else "worker"

    def forget(self, device: str) -> None:
        """Count anew: the device is to be used again."""
        self._fresh[device] = 0
