"""A made-up store whose networks do something else than classify: lower scores are better, and they have no unit."""

from __future__ import annotations

from prunectl.spec.task import Metric, TaskMetrics
from prunectl.store.db.database import opened, upsert
from prunectl.store.db.rows import TASK, task_rows
from prunectl.store.paths import StorePaths

TASK_NAME = "regression"
REGRESSION = TaskMetrics((Metric("rmse", higher_is_better=False, digits=4), Metric("r2", digits=3)))

_SCORES = ("score", "best_score", "validation_score", "train_score", "score_pruned", "score_start")


def mirrored(score: float) -> float:
    """The score that is as good, where lower is better: 92 % of accuracy is an error of 0.08."""
    return 1 - score / 100


def make_regression(paths: StorePaths, where: str = "true") -> None:
    """Make the trials, of which `where` holds in SQL, trials of regression; all stages of the store have its scores."""
    scores = ", ".join(f"{name} = 1 - {name} / 100" for name in _SCORES)
    with opened(paths.database, write=True, patience=5) as connection:
        upsert(connection, "tasks", TASK, task_rows(TASK_NAME, REGRESSION))
        connection.execute(f"UPDATE trials SET task = '{TASK_NAME}' WHERE {where}")
        connection.execute(f"""
            UPDATE stages SET task = '{TASK_NAME}', {scores}, accuracy = NULL, top5 = NULL, best_accuracy = NULL,
                validation_accuracy = NULL, train_accuracy = NULL, accuracy_pruned = NULL, accuracy_start = NULL
        """)
