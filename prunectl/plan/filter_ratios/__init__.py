"""Structured pruning by filter ratios (Li et al. 2017): which fraction of each layer's filters goes in which cut.

Of a layer with ratio d, cut i drops 1 − (1 − d)^i of its dense filters, in one shot or after the cuts before it.
A plan gives ratios by layer, or names a set that is shipped (filters/*.toml) with the drawn rounding of its source.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from typing import Annotated, Literal

import tomli
from pydantic import Field

from prunectl.errors import UnknownName
from prunectl.plan.table import Fraction01, Int, Table

Ratios = tuple[tuple[str, str], ...]
"""(layer, fraction of its filters gone) pairs as `core.settings.PruneSettings` takes them, sorted by layer."""


class Group(Table):
    """Layers alike."""

    filters: Annotated[Int, Field(ge=1)]
    fraction: Fraction01
    layers: tuple[str, ...]


class FilterSet(Table):
    """A shipped set of ratios, for one network or several."""

    source: str
    rounding: Literal["nearest", "drawn"] = "nearest"
    networks: dict[str, tuple[Group, ...]]


def names() -> list[str]:
    """Names of the sets that prunectl ships."""
    folder = resources.files("prunectl.plan.filter_ratios")
    files = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


@lru_cache
def find(name: str) -> FilterSet:
    """A shipped set.

    Raises UnknownName.
    """
    if name not in names():
        raise UnknownName("set of filter ratios", name, names())
    file = resources.files("prunectl.plan.filter_ratios").joinpath(f"{name}.toml")
    return FilterSet.model_validate(tomli.loads(file.read_text(encoding="utf-8")))


def cuts(ratios: str | Mapping[str, float], network: str, count: int) -> list[Ratios]:
    """The ratios of cuts 1 … `count` of a network.

    Raises UnknownName for a set, or for a network that the set does not know.
    """
    if not isinstance(ratios, str):
        own = {layer: Decimal(repr(ratio)) for layer, ratio in ratios.items()}
        return [_sorted({layer: _gone(d, cut) for layer, d in own.items()}) for cut in _upto(count)]
    known = find(ratios)
    if network not in known.networks:
        raise UnknownName(f"network of the filter ratios {ratios}", network, known.networks)
    groups = known.networks[network]
    if known.rounding == "drawn":
        return [_drawn(groups, cut) for cut in _upto(count)]
    single = [(layer, group) for group in groups for layer in group.layers]
    return [
        _sorted({layer: _gone(Decimal(repr(group.fraction)), cut) for layer, group in single})
        for cut in _upto(count)
    ]


def _upto(count: int) -> range:
    return range(1, count + 1)


def _gone(ratio: Decimal, cut: int) -> Decimal:
    with localcontext(prec=200):
        return 1 - (1 - ratio) ** cut


def _drawn(groups: tuple[Group, ...], cut: int) -> Ratios:
    """What Renda et al.'s code comes to: whole filters, rounded up where a draw is below the remainder.

    The draws, one per layer in the network's order, are Python's from seed 0, which are promised to stay the same.
    """
    draws = random.Random(0)
    out: dict[str, Decimal] = {}
    for group in groups:
        wanted = group.filters * Fraction(_gone(Decimal(repr(group.fraction)), cut))
        for layer in group.layers:
            gone = int(wanted) + (draws.random() < wanted - int(wanted))
            out[layer] = Decimal(gone) / group.filters
    return _sorted(out)


def _sorted(ratios: Mapping[str, Decimal]) -> Ratios:
    return tuple((layer, plain(ratio)) for layer, ratio in sorted(ratios.items()))


def plain(value: Decimal) -> str:
    """A decimal without exponent or trailing zeros: one way to write each number."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
