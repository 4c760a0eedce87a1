"""The table `[pruning]`: which weights go, and at which levels."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prunectl.plan import labels
from prunectl.plan.table import Fraction01, Int, Table

MOST_ITERATIONS = 1000


class PruningSchedule(Table):
    """One-shot or iterative, to a list of sparsities or down a ladder of constant rate.

    Beside `ratios`, which name what goes, it has the kind and the number of levels alone.
    """

    kind: Literal["one-shot", "iterative"]
    sparsities: Annotated[tuple[Fraction01, ...], Field(max_length=MOST_ITERATIONS)] = ()
    rate: Fraction01 | None = None
    until: Fraction01 | None = None
    iterations: Annotated[Int, Field(ge=1, le=MOST_ITERATIONS)] | None = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> PruningSchedule:
        ends = (self.until is not None) + (self.iterations is not None)
        if self.sparsities:
            if self.rate is not None or ends:
                raise ValueError("give either `sparsities` or `rate` with `until` or `iterations`")
            if any(b <= a for a, b in zip(self.sparsities, self.sparsities[1:], strict=False)):
                raise ValueError("sparsities must increase")
        elif ends != 1 or (self.rate is None and self.until is not None):
            raise ValueError("needs `sparsities`, or `rate` with one of `until` and `iterations`")
        elif self.rate is not None and self.until is not None:
            # Before any is computed: at a rate of 1e-9 there are billions.
            levels = math.log1p(-self.until) / math.log1p(-self.rate)
            if levels > MOST_ITERATIONS:
                raise ValueError(
                    f"`until` takes {levels:,.0f} iterations of this rate, {MOST_ITERATIONS:,} are allowed"
                )
        return self

    @property
    def has_sparsities(self) -> bool:
        """Whether it gives sparsities, as a list or by a rate."""
        return bool(self.sparsities) or self.rate is not None

    @property
    def levels(self) -> int:
        """How many levels there are."""
        return len(self.densities()) if self.has_sparsities else self.iterations or 1

    def densities(self) -> tuple[Decimal, ...]:
        """Compute the fractions of the dense count kept at iteration 1, 2 …, exact: (1 − rate)ᵏ, or 1 − sparsity."""
        # repr: the digits as they stand in the plan, not those of the binary number nearest to them.
        if self.sparsities:
            return tuple(1 - Decimal(repr(sparsity)) for sparsity in self.sparsities)
        assert self.rate is not None
        step = 1 - Decimal(repr(self.rate))
        out = [step]
        # Decimal's usual 28 digits would end the ladder of rate 0.15 being exact at k = 14.
        with localcontext(prec=200):
            while (
                len(out) < self.iterations
                if self.iterations is not None
                else 1 - out[-1] < Decimal(repr(self.until))
            ):
                out.append(out[-1] * step)
        return tuple(out)

    @property
    def label(self) -> str:
        """For tables: the kind, and the rate of an iterative ladder or its sparsities."""
        if self.kind == "one-shot" or not self.has_sparsities:
            return self.kind
        # All digits: rates that differ in the seventh are two ladders.
        if self.rate is not None:
            return f"iterative {self.rate!r}"
        return "iterative " + ",".join(map(repr, self.sparsities))

    @property
    def end(self) -> str:
        """For tables: where a ladder of this label ends; "" where the label says all, or each level is a trial."""
        if self.kind == "one-shot" or self.sparsities:
            return ""
        return (
            f"until={self.until!r}" if self.iterations is None else f"iterations={self.iterations}"
        )


class Pruning(Table):
    """Which weights go, and at which levels."""

    schedule: PruningSchedule
    criterion: str = "magnitude"
    scope: Literal["global", "layerwise", "uniform"] = "global"
    granularity: Literal["weight", "channel"] = "weight"
    exclude: tuple[str, ...] = ()
    ratios: str | dict[str, Fraction01] | None = None
    """Filters that go by layer (Li et al. 2017): the name of a shipped set, or layer → fraction dropped per level."""

    @model_validator(mode="after")
    def _ratios_or_sparsities(self) -> Pruning:
        if self.ratios is None:
            if not self.schedule.has_sparsities:
                raise ValueError(
                    "the schedule needs `sparsities` or a `rate`: `iterations` alone are for `ratios`"
                )
            return self
        if self.schedule.has_sparsities:
            raise ValueError(
                "`ratios` say what goes: their schedule is { kind = …, iterations = … } and no more"
            )
        if {"scope", "granularity"} & self.model_fields_set:
            raise ValueError("`ratios` name whole filters layer by layer: no scope, no granularity")
        if not self.ratios:
            raise ValueError("`ratios` name no layer")
        return self

    @property
    def labels(self) -> tuple[str, str, str]:
        """For tables: criterion, scope with what is excluded, granularity (of ratios: the name of their set)."""
        without = f" without {','.join(sorted(self.exclude))}" if self.exclude else ""
        if self.ratios is None:
            return self.criterion, f"{self.scope}{without}", self.granularity
        name = self.ratios if isinstance(self.ratios, str) else labels.own("own", self.ratios)
        return self.criterion, f"layerwise{without}", f"filters {name}"
