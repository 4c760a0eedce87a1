"""Tiny plans: studies of a small network on images made by rule, which a CPU trains in about a second."""

from __future__ import annotations

import json
from collections.abc import Sequence


def tiny_plan(
    *,
    question: str = "Which is best on a toy?",
    seeds: Sequence[int] = (0, 1),
    network: str = "lenet-300-100",
    strategies: Sequence[str] = ("fine-tune", "weight-rewind"),
    side: int = 8,
    classes: int = 4,
    train: int = 256,
    test: int = 100,
    epochs: int = 4,
    batch: int = 64,
    milestones: tuple[int, int] = (2, 3),
    rewound: int = 3,
    recipe: str = "",
    iterations: int = 2,
) -> str:
    """The text of a plan, named tiny, that halves the weights `iterations` times. Lengths are in epochs and images are
    `side` × `side` with one channel. `rewound` is the length of weight rewinding, `recipe` more lines of that table.

    Every value stands on a line of its own, which tests replace.
    """
    first, second = milestones
    return f"""\
# {question}
name = "tiny"
seeds = {list(seeds)}

[grid]
network = ["{network}"]
dataset = ["toy"]
strategy = {json.dumps(list(strategies))}

[datasets.toy]
kind = "synthetic"
channels = 1
height = {side}
width = {side}
classes = {classes}
train = {train}
test = {test}

[recipe]
length = "{epochs}ep"
batch = {batch}
schedule = {{ kind = "step", lr = 0.05, milestones = ["{first}ep", "{second}ep"] }}
{recipe}
[recipe.retrain]
fine-tune = "full"
weight-rewind = "{rewound}ep"
lr-rewind = "full"

[pruning]
schedule = {{ kind = "iterative", rate = 0.5, iterations = {iterations} }}
"""


TINY = tiny_plan()
"""Two strategies, two seeds: ten stages of 12 or 16 steps."""
