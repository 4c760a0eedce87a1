"""Labels of trials, complete: what a plan varies differs in a label, and what has one label is one thing.

Names of prunectl's own are their labels. What a plan defines itself has its name and six digits of its content, for the
next version of the plan may mean another thing by the name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from prunectl.plan.schema import Strategy
from prunectl.spec.trial import with_digits

OWN_RECIPE = "own"
"""The name of a recipe that stands in the plan and has no base."""

_NOT_TRAINING = ("retrain", "source", "unverified")
"""Keys of a recipe that say nothing of the dense training: lengths of retraining have a label of their own."""


def own_recipe(table: Mapping[str, Any]) -> str:
    """Return the label of a recipe without a base, as it stands in the plan."""
    content = {name: value for name, value in table.items() if name not in _NOT_TRAINING}
    return own(OWN_RECIPE, content)


def own_strategy(name: str, strategy: Strategy) -> str:
    """Return the label of a strategy that the plan defines."""
    return own(name, strategy.model_dump())


def own(name: str, content: object) -> str:
    """Return a name with six digits of what it stands for; `content` is data as TOML has it, and what becomes text."""
    return with_digits(name, json.dumps(content, sort_keys=True, default=str))


def identifier(*parts: str) -> str:
    """Return the id of what these texts name, 16 hex digits."""
    # 64 bits, short enough to be typed: of 10,000 trials two have the same id with probability 3e-12.
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
