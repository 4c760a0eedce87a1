"""What has to be said beside a table of scores: which sparsity was reached, and how much one test item is."""

from __future__ import annotations

from collections.abc import Iterable

from prunectl.results import metrics
from prunectl.spec.task import DEFAULT_TASK, Metric

NOT_INDEPENDENT = "trials share seeds, so that no two are replications of each other"
"""Why nothing is inferred from trials that do not differ in all seeds."""
FEWEST_ITEMS = 1000
"""Of a test set whose scores are results: with fewer, one item is more than 0.1 points of a percentage."""


def reached_text(target: float, reached: Iterable[tuple[float | None, float | None]]) -> str:
    """Write the sparsity that networks reached, such as ``0.79`` or ``0.78–0.81``; "" where it is the target.

    Args:
        reached: sparsities, each with the number of prunable weights that it is of.

    Both are compared by the digits that the target is written with, two decimals at least. What is not one whole weight
    off is the target: no network has another sparsity that is nearer.
    """
    decimals = max(2, len(f"{target:.4g}".partition(".")[2]))

    def text(value: float) -> str:
        return f"{value:.{decimals}f}"

    known = [(value, weights) for value, weights in reached if value is not None and weights]
    if not any(
        text(value) != text(target) and abs(value - target) * weights >= 1
        for value, weights in known
    ):
        return ""
    values = [value for value, _ in known]
    return "–".join(dict.fromkeys((text(min(values)), text(max(values)))))


def column_head(target: float, reached: str, word: str = "reached ") -> str:
    """Head a table's column: ``0.8``, or ``0.8 (reached 0.79)``; where there is no room, with another `word`."""
    return f"{target:.4g}" + (f" ({word}{reached})" if reached else "")


def small_test_set(dataset: str, task: str, metric: Metric, resolution: float | None) -> str:
    """Say that a table is a demonstration where one test item is much of a score; else "".

    Args:
        resolution: what one test item more or less changes of a score, in its unit; None where that is not known.
    """
    # A metric without steps says nothing of its test set.
    if not resolution or metric.per_item / resolution >= FEWEST_ITEMS:
        return ""
    item = "image" if task == DEFAULT_TASK else "item"
    step = f"{resolution:.{metric.digits}f} {metrics.difference_unit(metric)}"
    return f"one test {item} of {dataset} is {step}: a demonstration, not a result"
