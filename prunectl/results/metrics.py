"""What tasks measure, as the read side knows it: from the database or a plan's record, never by a task's name.

A board, a curve or a line of text is about a `Metric`, the score of its task; this module says how one is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from prunectl.errors import StoreError
from prunectl.spec.task import CLASSIFICATION, DEFAULT_TASK, Metric, TaskMetrics
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import FoundTrial

KNOWN: Mapping[str, TaskMetrics] = {DEFAULT_TASK: CLASSIFICATION}
"""What needs no record: it is the same in every store."""

UNDECLARED = TaskMetrics((Metric("score", digits=4),))
"""Of a task that the store says nothing of."""

_TASKS = """
SELECT task, metric AS name, unit, higher_is_better, digits, per_item, guesses FROM tasks ORDER BY task, position
"""


def task_metrics(paths: StorePaths) -> dict[str, TaskMetrics]:
    """Read what each task of the store measures. Raises StoreError where the store cannot be read."""
    from prunectl.store.db import query  # of which the screens that need no table have no use

    found: dict[str, list[Metric]] = {}
    for row in query.run(paths, _TASKS).dicts():
        found.setdefault(row.pop("task"), []).append(Metric(**row))
    return {task: TaskMetrics(tuple(metrics)) for task, metrics in found.items()}


def recorded_metrics(plan: Mapping[str, Any]) -> dict[str, TaskMetrics]:
    """Read what a plan's record says of the tasks that it uses. Raises StoreError where it is malformed."""
    try:
        return {**KNOWN, **msgspec.convert(plan.get("tasks", {}), dict[str, TaskMetrics])}
    except msgspec.ValidationError as error:
        raise StoreError(
            f"the plan's record says of its tasks what is no metric: {error}"
        ) from error


def metrics_of(tasks: Mapping[str, TaskMetrics], task: str | None) -> TaskMetrics:
    """Select a task's metrics; those of `UNDECLARED` where nothing is known of it."""
    return tasks.get(task or DEFAULT_TASK, UNDECLARED)


def trial_metrics(found: FoundTrial) -> TaskMetrics:
    """Read what the task of a trial measures, from its plan's record. Raises StoreError where that is malformed."""
    dense = found.study.stages[found.trial.path[0]].body
    return metrics_of(recorded_metrics(found.record), dense.get("task"))


def title(metric: Metric) -> str:
    """Name a metric with its unit: ``accuracy %``, ``rmse``."""
    return f"{metric.name} {metric.unit}".rstrip()


def axis(metric: Metric) -> str:
    """Label an axis with values on the test set: ``test accuracy (%)``, ``test rmse``."""
    return f"test {metric.name}" + (f" ({metric.unit})" if metric.unit else "")


def difference_unit(metric: Metric) -> str:
    """Say what a difference of two values is counted in: ``points`` of a percentage, else the unit or the name."""
    return metric.points or metric.name


def direction(metric: Metric) -> str:
    """Return `` (lower is better)`` where it is, else nothing."""
    return "" if metric.higher_is_better else " (lower is better)"


def titles(metrics: Iterable[Metric]) -> str:
    """Name the metrics of a table, each once: ``accuracy %``, ``accuracy % or rmse (lower is better)``."""
    return " or ".join(dict.fromkeys(title(each) + direction(each) for each in metrics))


def difference_title(metric: Metric) -> str:
    """Name a change with its unit: ``points``, ``change of rmse (lower is better)``."""
    what = metric.points if metric.unit == "%" else f"change of {title(metric)}"
    return what + direction(metric)
