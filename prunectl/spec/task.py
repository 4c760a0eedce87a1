"""What is measured of a network: the metrics that a task declares, as plain values, free of torch.

`ml.tasks.registry` declares the tasks; a plan's record carries what it says of the ones that the plan uses, so that
whoever ranks and draws results needs to know no task by name. `CLASSIFICATION` stands here because it is the default:
a record or a stage that names no task is of this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.spec.ranges import SMALL, Amount


class Metric(msgspec.Struct, frozen=True):
    """One number that a task measures of a network on a split of its data set."""

    name: Annotated[str, Meta(description="name of the metric, as in the records' `metrics`")]
    unit: Annotated[str, Meta(description="its unit, such as %; empty where it has none")] = ""
    higher_is_better: Annotated[bool, Meta(description="whether higher values are better")] = True
    digits: Annotated[int, Meta(ge=0, le=20, description="decimals that are shown")] = 2
    per_item: Annotated[
        Amount,
        Meta(
            description="what one test item more or less changes, times their number: 100 for a percentage; 0 where "
            "the metric is continuous"
        ),
    ] = 0.0
    guesses: Annotated[
        Annotated[int, Meta(ge=1, le=SMALL)] | None,
        Meta(
            description="classes that may be named for one item, at a chance of guesses/classes of being right; null "
            "where there is no chance level"
        ),
    ] = None

    def resolution(self, items: int) -> float:
        """Return the smallest step between two values over so many test items; 0 where it is continuous."""
        return self.per_item / items

    def chance(self, classes: int) -> float | None:
        """Return what guessing scores among so many classes; None where there is no such level."""
        return None if self.guesses is None else self.per_item * min(1.0, self.guesses / classes)

    def is_chance(self, value: float, classes: int, items: int) -> bool:
        """Return whether a value over `items` test items cannot be told from guessing, or is worse.

        Guessing is right p = guesses/classes of the time: what lies within three standard errors √(p(1−p)/n) of that
        cannot be told from it.
        """
        level = self.chance(classes)
        if level is None:
            return False
        p = level / self.per_item
        margin = 3 * self.per_item * math.sqrt(p * (1 - p) / items)
        return value <= level + margin if self.higher_is_better else value >= level - margin

    @property
    def sign(self) -> int:
        """1 where higher is better, −1 where lower is: what a difference is multiplied by to be a gain."""
        return 1 if self.higher_is_better else -1

    @property
    def points(self) -> str:
        """The unit of a difference: percentages differ by points."""
        return "points" if self.unit == "%" else self.unit

    def text(self, value: float) -> str:
        """Write a value with its unit."""
        return f"{value:.{self.digits}f} {self.unit}".rstrip()


class TaskMetrics(msgspec.Struct, frozen=True):
    """What a task measures beside the loss: the score first, by which networks are ranked."""

    metrics: Annotated[tuple[Metric, ...], Meta(min_length=1, description="the score first")]

    @property
    def score(self) -> Metric:
        """The metric that decides which of two networks is better."""
        return self.metrics[0]


UNDECLARED = TaskMetrics((Metric("score", digits=4),))
"""Of a task that nothing is known of."""

DEFAULT_TASK = "classification"
CLASSIFICATION = TaskMetrics(
    (
        Metric("accuracy", "%", per_item=100.0, guesses=1),
        Metric("top5", "%", per_item=100.0, guesses=5),
    )
)
KNOWN: Mapping[str, TaskMetrics] = {DEFAULT_TASK: CLASSIFICATION}
"""What needs no record: it is the same in every store."""


def metrics_of(tasks: Mapping[str, TaskMetrics], task: str) -> TaskMetrics:
    """Return what a task measures, as `tasks` says or, of the default task, as is known; `UNDECLARED` otherwise."""
    return tasks.get(task) or KNOWN.get(task, UNDECLARED)
