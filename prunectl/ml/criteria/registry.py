"""Every criterion, torch-free. A new one is a file with a `score` function (see `base`) and a line here."""

from __future__ import annotations

from prunectl.ml.resolve import lookup

REFERENCES = {
    "magnitude": "prunectl.ml.criteria.magnitude:score",
    "random": "prunectl.ml.criteria.random:score",
}


def find(name: str) -> str:
    """Return the reference of a criterion, for `resolve`. Raises UnknownName."""
    return lookup("criterion", name, REFERENCES)
