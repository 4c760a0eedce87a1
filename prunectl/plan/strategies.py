"""The built-in strategies, as rows of one table.

Renda, Frankle and Carbin 2020 for the first five; `partial-rewind-X` is the partial rewinding of Mikler's thesis:
weights rewound by X percent of training, schedule from its start.
"""

from __future__ import annotations

import re

from prunectl.errors import UnknownName
from prunectl.plan.labels import own_strategy
from prunectl.plan.schema import DenseWeights, Strategy

BUILT_IN = {
    "fine-tune": Strategy(weights_from="parent", lr_window="last-value"),
    "weight-rewind": Strategy(weights_from="rewound", lr_window="rewound"),
    "lr-rewind": Strategy(weights_from="parent", lr_window="rewound"),
    "weight-rewind-low-lr": Strategy(weights_from="rewound", lr_window="last-value"),
    "reinit": Strategy(weights_from="init", lr_window="from-start", retrain="full"),
}

DENSE = "dense"
"""In a grid's `strategy`: the dense network alone, with nothing pruned."""

_PARTIAL = re.compile(r"partial-rewind-(\d+(?:\.\d+)?)")


def built_in(name: str) -> Strategy | None:
    """Look up the strategy that prunectl has under this name; None for other names."""
    match = _PARTIAL.fullmatch(name)
    if match and float(match[1]) <= 100:
        kept = round(1 - float(match[1]) / 100, 12)
        return Strategy(
            weights_from=DenseWeights(dense=kept), lr_window="from-start", retrain="full"
        )
    return BUILT_IN.get(name)


def find(name: str, own: dict[str, Strategy]) -> Strategy:
    """Look up the plan's own strategy of that name, or the built-in one.

    Raises UnknownName.
    """
    strategy = own.get(name) or built_in(name)
    if strategy is None:
        raise UnknownName("strategy", name, [*own, *BUILT_IN, "partial-rewind-50", DENSE])
    return strategy


def label(name: str, own: dict[str, Strategy]) -> str:
    """Return what tables call a strategy: its name, for one of the plan's own with digits of what it is."""
    return own_strategy(name, own[name]) if name in own else name


def fixes_length(name: str, own: dict[str, Strategy]) -> bool:
    """Check whether a strategy says itself how long it retrains, as `reinit` does; False for one that is unknown."""
    strategy = own.get(name) or built_in(name)
    return strategy is not None and strategy.retrain is not None
