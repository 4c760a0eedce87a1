"""One cell of a table of methods × sparsities: a number with what it rests on, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunectl.results import power, relations
from prunectl.results.power import SeedsNeeded
from prunectl.spec.task import Metric
from prunectl.text import DASH, signed


@dataclass(frozen=True)
class Cell:
    """One number with what it rests on: scores in their metric's unit.

    `values` has every column of the view `leaderboard`, and of `ranking` and `selections` what `cells` takes from them.
    """

    cell: str
    iteration: int
    n: int
    planned: int
    mean: float | None
    std: float | None
    ci: float | None
    delta: float | None
    delta_ci: float | None
    flagged: int
    rank: int | None
    best: bool
    tied: bool
    uneven: bool
    """Whether it failed in a seed where another method of its column did not: it is never marked."""
    metric: Metric
    """What the number is."""
    values: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether all planned seeds are in."""
        return self.n == self.planned

    @property
    def independent(self) -> bool:
        """Whether any two of its planned trials differ in all seeds: what intervals and marks need."""
        return bool(self.values["independent"])

    @property
    def mark(self) -> str:
        """★ best of its column, ≈ not beaten by any other of it, ! some seeds diverged, collapsed or lost a layer."""
        return ("★" if self.best else "≈" if self.tied else "") + ("!" if self.flagged else "")

    @property
    def count(self) -> str:
        """n, or n/planned while seeds are missing."""
        return str(self.n) if self.complete else f"{self.n}/{self.planned}"

    def text(self) -> str:
        """Such as ``92.14 ± 0.11 (3) ★``; ``– (0/3)`` before the first seed."""
        if self.mean is None:
            return f"{DASH} ({self.count})"
        digits = self.metric.digits
        spread = f" ± {self.std:.{digits}f}" if self.std is not None else ""
        failed = f" {self.failed}" if self.uneven else ""
        return f"{self.mean:.{digits}f}{spread} ({self.count}) {self.mark}{failed}".rstrip()

    @property
    def failed(self) -> str:
        """Such as ``1 of 3 diverged``; "" where none failed."""
        kinds = ((name, self.values[name]) for name in ("diverged", "collapsed"))
        said = " and ".join(f"{count} {name}" for name, count in kinds if count)
        return said.replace(" ", f" of {self.n} ", 1) if said else ""

    def seeds_needed(self) -> SeedsNeeded | None:
        """Find how many seeds would tell a tied method from the best with 80 % power, were their gap the true one."""
        if not self.tied or self.values["gap_std"] is None:
            return None
        return power.seeds_for_gap(
            abs(self.values["gap"]), self.values["gap_std"], self.values["pairs"],
            relations.TAIL / (self.values["contenders"] - 1),
        )  # fmt: skip

    def delta_text(self) -> str:
        """Such as ``−0.24 ± 0.10``, the second being half the 95 % interval; with ns where that covers 0."""
        if self.delta is None:
            return DASH
        digits = self.metric.digits
        change = signed(self.delta, digits)
        if self.delta_ci is None:
            return change
        return f"{change} ± {self.delta_ci:.{digits}f}{' ns' if self.covers_no_change else ''}"

    @property
    def covers_no_change(self) -> bool:
        """Whether the 95 % interval of the change from dense covers 0."""
        return (
            self.delta is not None
            and self.delta_ci is not None
            and abs(self.delta) <= self.delta_ci
        )
