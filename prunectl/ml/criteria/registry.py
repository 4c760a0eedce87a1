"""Every criterion there is; torch-free. A new one is a file with a `score` function and a line here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunectl.errors import UnknownName

if TYPE_CHECKING:
    from prunectl.ml.criteria.base import Criterion


@dataclass(frozen=True)
class CriterionEntry:
    """A criterion's name, the module with its `score`, and what it does in a few words."""

    name: str
    module: str
    summary: str

    def load(self) -> Criterion:
        """The scoring function; imports torch."""
        score: Criterion = importlib.import_module(self.module).score
        return score


_CRITERIA = {
    "magnitude": "large weights are kept",
    "random": "weights are kept by lot: the control",
}


def names() -> list[str]:
    """The names of all criteria."""
    return list(_CRITERIA)


def find(name: str) -> CriterionEntry:
    """The criterion of that name. Raises UnknownName."""
    if name not in _CRITERIA:
        raise UnknownName("criterion", name, names())
    return CriterionEntry(name, f"prunectl.ml.criteria.{name}", _CRITERIA[name])
