"""Print the table of Student's t quantiles that the database ships with, as SciPy computes them.

python -m tests.support.t_quantiles | gzip -9n > prunectl/store/db/t_quantiles.csv.gz
"""

from __future__ import annotations

import math

from scipy.special import stdtrit

TAIL = 0.05
COMPARISONS = (*range(1, 65), 4096)
"""Each has its quantile at 1 − 0.05/comparisons; the last one stands for all that are more than 64."""
LAST, LAST_OF_MANY = 1000, 100
"""Degrees of freedom up to which there is a row each, of up to two comparisons and of more; then one row for the normal
distribution."""


def t_quantiles() -> list[tuple[int, float, float]]:
    """Comparisons, degrees of freedom and the quantile, ascending; infinity last."""
    out: list[tuple[int, float, float]] = []
    for comparisons in COMPARISONS:
        last = LAST if comparisons <= 2 else LAST_OF_MANY
        df = [*map(float, range(1, last + 1)), math.inf]
        quantiles = (-stdtrit(df, TAIL / comparisons)).tolist()
        out += [(comparisons, *row) for row in zip(df, quantiles, strict=True)]
    return out


if __name__ == "__main__":
    print("comparisons,df,t")
    for comparisons, freedom, quantile in t_quantiles():
        print(f"{comparisons},{freedom:g},{quantile!r}")
