"""Print the table of Student's t quantiles that the database ships with, as SciPy computes them.

python -m tests.support.t_quantiles | gzip -9n > prunectl/store/db/t_quantiles.csv.gz
"""

from __future__ import annotations

import math

from scipy.special import stdtrit

LAST = 1000
"""Degrees of freedom up to which there is a row each; then one row for the normal distribution."""


def t_quantiles() -> list[tuple[float, float]]:
    """Degrees of freedom and the 97.5 % quantile, ascending; infinity last."""
    df = [*map(float, range(1, LAST + 1)), math.inf]
    return list(zip(df, stdtrit(df, 0.975).tolist(), strict=True))


if __name__ == "__main__":
    print("df,t975")
    for freedom, quantile in t_quantiles():
        print(f"{freedom:g},{quantile!r}")
