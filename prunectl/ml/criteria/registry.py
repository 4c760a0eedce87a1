"""Every criterion, torch-free. A new one is a file with a `score` function (see `base`) and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunectl.ml.resolve import lookup, resolve

if TYPE_CHECKING:
    from prunectl.ml.criteria.base import Criterion

_REFERENCES = {
    "magnitude": "prunectl.ml.criteria.magnitude:score",
    "random": "prunectl.ml.criteria.random:score",
}


def names() -> list[str]:
    """The names of all criteria."""
    return list(_REFERENCES)


def find(name: str) -> str:
    """The reference of a criterion, for `resolve`. Raises UnknownName."""
    return lookup("criterion", name, _REFERENCES)


def load(name: str) -> Criterion:
    """The scoring function of a criterion; imports torch. Raises UnknownName."""
    score: Criterion = resolve(find(name))
    return score
