"""What tasks measure, as the read side knows it: from the database or a plan's record, never by a task's name.

A board, a curve or a line of text is about a `Metric`, the score of its task; this module says how one is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from prunectl.spec.task import KNOWN, Metric, TaskMetrics, metrics_of
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import FoundTrial

_TASKS = """
SELECT task, metric AS name, unit, higher_is_better, digits, per_item, guesses FROM tasks ORDER BY task, position
"""


def task_metrics(paths: StorePaths, tasks: Set[str]) -> Mapping[str, TaskMetrics]:
    """Return what tasks measure, as far as the store says. Raises StoreError where it cannot be read."""
    if tasks <= KNOWN.keys():
        return KNOWN
    from prunectl.store.db import query  # of which the screens that need no table have no use

    found: dict[str, list[Metric]] = {}
    for row in query.run(paths, _TASKS).dicts():
        found.setdefault(row.pop("task"), []).append(Metric(**row))
    return {task: TaskMetrics(tuple(metrics)) for task, metrics in found.items()}


def trial_metrics(found: FoundTrial) -> TaskMetrics:
    """Return what the task of a trial measures, as its plan's record says."""
    return metrics_of(found.study.tasks, found.trial.task)


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
