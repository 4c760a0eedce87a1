"""Fill the tables of a database with scores of made-up studies, thousands at once, whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FILL = """
INSERT INTO plans (digest, plan, created) VALUES ('d', 'simulated', TIMESTAMP '2026-01-01');
INSERT INTO trials (trial, cell, plan, network, dataset, task, recipe, strategy, schedule, criterion, scope,
                    granularity, retrain, seed, order_seed, augment_seed, iterations)
SELECT DISTINCT format('t{}-{}-{}', study, method, seed), format('c{}-{}', study, method), 'simulated',
       format('n{}', study), 'cifar10', 'classification', 'mikler2021-resnet', format('m{}', method), 'iterative 0.2',
       'magnitude', 'global', 'weight', '10ep', seed, seed, seed, levels
FROM long;
INSERT INTO plan_trials SELECT 'd', trial, 0 FROM trials;
INSERT INTO paths SELECT format('t{}-{}-{}', study, method, seed), level + 1,
       format('s{}-{}-{}-{}', study, method, level, seed), 1 - 0.8 ** (level + 1) FROM long;
INSERT INTO paths
SELECT DISTINCT format('t{}-{}-{}', study, method, seed), 0, format('d{}-{}', study, seed), 0 FROM long;
INSERT INTO stages (stage, network, dataset, task, seed, iteration, done, flag, score, accuracy, kept, prunable,
                    test_items, train_epochs)
SELECT format('s{}-{}-{}-{}', study, method, level, seed), format('n{}', study), 'cifar10', 'classification', seed,
       level + 1, true, CASE WHEN failed THEN 'diverged' END, score, score, round(1e6 * 0.8 ** (level + 1)), 1000000,
       items, 10
FROM long WHERE NOT isnan(score);
INSERT INTO stages (stage, network, dataset, task, seed, iteration, done, score, accuracy, kept, prunable, test_items)
SELECT DISTINCT format('d{}-{}', study, seed), format('n{}', study), 'cifar10', 'classification', seed, 0, true, dense,
       dense, 1000000, 1000000, items
FROM long;
"""


def fill(
    connection: Any,
    scores: Floats,
    failed: NDArray[np.bool_] | None = None,
    dense: Floats | None = None,
    test_items: int | None = None,
) -> None:
    """Insert one plan: a network for each study, a strategy for each method, iterative.

    Args:
        connection: an empty database, with its tables and views.
        scores: [studies, methods, levels, seeds], percent; NaN is not measured.
        failed: which of them diverged.
        dense: [studies, seeds]; 90 unless given.
        test_items: of the test set; unknown unless given.
    """
    studies, _, levels, seeds = scores.shape
    at = np.indices(scores.shape).reshape(4, -1)
    flags = np.zeros(scores.shape, bool) if failed is None else failed
    reference = np.full((studies, seeds), 90.0) if dense is None else dense
    table = {
        "study": at[0], "method": at[1], "level": at[2], "seed": at[3],
        "score": scores.ravel(), "failed": flags.ravel(), "dense": reference[at[0], at[3]],
    }  # fmt: skip
    connection.register("long_view", table)
    connection.execute(
        f"CREATE TEMP TABLE long AS "
        f"SELECT *, {levels} AS levels, {test_items or 'NULL'}::BIGINT AS items FROM long_view"
    )
    connection.execute(_FILL)
    connection.execute("DROP TABLE long")
    connection.unregister("long_view")


MARK = "CASE WHEN best THEN 2 WHEN tied THEN 1 ELSE 0 END"


def marks(connection: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Read the marks [studies, methods, levels] of what `fill` inserted: 2 is ★, 1 is ≈, 0 unmarked."""
    out = np.zeros(shape[:3], np.int64)
    sql = f"""
        SELECT substr(network, 2)::INT AS study, substr(strategy, 2)::INT AS method, iteration - 1 AS level,
               {MARK} AS mark
        FROM ranking_all"""
    found = connection.execute(sql).fetchnumpy()
    out[found["study"], found["method"], found["level"]] = found["mark"]
    return out
