"""Structured pruning by filter ratios (Li et al. 2017): which fraction of each layer's filters goes at which level.

Of a layer with ratio d, level i is without 1 − (1 − d)^i of its dense filters, in one shot or after the levels before.
A plan gives ratios by layer, or names a set that is shipped (*.toml here) with the drawn rounding of its source.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

from prunectl.errors import UnknownName
from prunectl.plan import shipped
from prunectl.plan.table import Fraction01, Int, Table

Ratios = tuple[tuple[str, str], ...]
"""(layer, fraction of its filters gone) pairs as `spec.settings.PruneSettings` takes them, sorted by layer."""


class Group(Table):
    """Layers of the same number of filters and the same ratio."""

    filters: Annotated[Int, Field(ge=1)]
    fraction: Fraction01
    layers: tuple[str, ...]


class FilterSet(Table):
    """A shipped set of ratios, for one network or several."""

    source: str
    rounding: Literal["nearest", "drawn"] = "nearest"
    networks: dict[str, tuple[Group, ...]]


@lru_cache
def find(name: str) -> FilterSet:
    """Read a shipped set. Raises UnknownName."""
    return FilterSet.model_validate(shipped.read("filter_ratios", name, "set of filter ratios"))


def levels(ratios: str | Mapping[str, float], network: str, count: int) -> list[Ratios]:
    """Compute the ratios of levels 1 … `count` of a network.

    Raises UnknownName for a set, or for a network that the set does not know.
    """
    if not isinstance(ratios, str):
        by_layer = dict(ratios)
    else:
        known = find(ratios)
        if network not in known.networks:
            raise UnknownName(f"network of the filter ratios {ratios}", network, known.networks)
        groups = known.networks[network]
        if known.rounding == "drawn":
            return [_drawn(groups, level) for level in range(1, count + 1)]
        by_layer = {layer: group.fraction for group in groups for layer in group.layers}
    return [
        _sorted({layer: _gone(ratio, level) for layer, ratio in by_layer.items()})
        for level in range(1, count + 1)
    ]


def _gone(ratio: float, level: int) -> Decimal:
    """Compute the exact fraction of the dense filters that is gone at a level."""
    with localcontext(prec=200):
        return 1 - (1 - Decimal(repr(ratio))) ** level


def _drawn(groups: tuple[Group, ...], level: int) -> Ratios:
    """Compute what Renda et al.'s code comes to: whole filters, rounded up where a draw is below the remainder.

    The draws, one per layer in the network's order, are Python's from seed 0, which are promised to stay the same.
    """
    draws = random.Random(0)
    out: dict[str, Decimal] = {}
    for group in groups:
        wanted = group.filters * Fraction(_gone(group.fraction, level))
        for layer in group.layers:
            gone = int(wanted) + (draws.random() < wanted - int(wanted))
            out[layer] = Decimal(gone) / group.filters
    return _sorted(out)


def _sorted(ratios: Mapping[str, Decimal]) -> Ratios:
    return tuple((layer, plain(ratio)) for layer, ratio in sorted(ratios.items()))


def plain(value: Decimal) -> str:
    """Write a decimal without exponent or trailing zeros: one way to write each number."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
