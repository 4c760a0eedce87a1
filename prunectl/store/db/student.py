"""The 97.5 % quantile of Student's t, which every 95 % interval here is made with: a table and a tail.

Python (`t975`) and the database (the macro of the same name) use the same numbers, so a table on screen and a
query can never disagree about what is a tie.
"""

from __future__ import annotations

import math

T975 = (
    12.7062047362, 4.30265272975, 3.18244630528, 2.7764451052, 2.57058183564, 2.44691185114,
    2.36462425159, 2.30600413520, 2.26215716280, 2.22813885199, 2.20098516009, 2.17881282966,
    2.16036865646, 2.14478668792, 2.13144954556, 2.11990529922, 2.10981557783, 2.10092204024,
    2.09302405441, 2.08596344727, 2.07961384473, 2.07387306790, 2.06865761042, 2.06389856163,
    2.05953855275, 2.05552943864, 2.05183051648, 2.04840714180, 2.04522964213, 2.04227245630,
)  # fmt: skip
"""For 1 … 30 degrees of freedom."""

Z975 = 1.959963984540054
"""The normal distribution's quantile, to which t's falls as the degrees of freedom grow."""

_TAIL = (
    (Z975**3 + Z975) / 4,
    (5 * Z975**5 + 16 * Z975**3 + 3 * Z975) / 96,
    (3 * Z975**7 + 19 * Z975**5 + 17 * Z975**3 - 15 * Z975) / 384,
    (79 * Z975**9 + 776 * Z975**7 + 1482 * Z975**5 - 1920 * Z975**3 - 945 * Z975) / 92160,
)
"""Coefficients of 1/df … 1/df⁴ in Cornish and Fisher's expansion (Abramowitz & Stegun 26.7.5)."""


def t975(df: int) -> float:
    """The quantile for `df` ≥ 1 degrees of freedom, to 6 digits or better."""
    if df <= len(T975):
        return T975[df - 1]
    return float(Z975 + sum(c / df**power for power, c in enumerate(_TAIL, start=1)))


def half_width(std: float, n: int) -> float | None:
    """Half the 95 % interval of a mean of n values with this sample standard deviation; None below n = 2."""
    return t975(n - 1) * std / math.sqrt(n) if n >= 2 else None


def n_needed(mean: float, std: float) -> int | None:
    """The least n at which the 95 % interval of the mean leaves out 0, if mean and std stay as they are.

    None where the mean is 0: no n decides that.
    """
    if mean == 0:
        return None
    ratio = abs(mean) / std if std else math.inf
    n = 2
    while n <= len(T975) and t975(n - 1) / math.sqrt(n) >= ratio:
        n += 1
    if n <= len(T975):
        return n
    # Beyond the table t²/n = ratio² is solved with t² ≈ z² + (z⁴ + z²) / (2n).
    return math.ceil((Z975 / ratio) ** 2 + (Z975**2 + 1) / 2)


def macros() -> str:
    """The same two functions as DuckDB macros."""
    table = ", ".join(f"{value:.12g}::DOUBLE" for value in T975)
    widths = ", ".join(f"{t975(n - 1) / math.sqrt(n)!r}::DOUBLE" for n in range(2, len(T975) + 1))
    tail = " + ".join(f"{c!r}::DOUBLE / df ** {power}" for power, c in enumerate(_TAIL, start=1))
    return f"""
CREATE MACRO t975(df) AS
    CASE WHEN df < 1 THEN NULL
         WHEN df <= {len(T975)} THEN list_extract([{table}], df)
         ELSE {Z975!r}::DOUBLE + {tail} END;
CREATE MACRO n_needed(mean, std) AS
    CASE WHEN mean = 0 THEN NULL
         WHEN std = 0 THEN 2
         WHEN abs(mean) / std > {t975(len(T975) - 1) / math.sqrt(len(T975))!r}::DOUBLE
         THEN 2 + len(list_filter([{widths}], lambda width: width >= abs(mean) / std))
         ELSE ceil(({Z975!r}::DOUBLE * std / mean) ** 2 + {(Z975**2 + 1) / 2!r}::DOUBLE) END::BIGINT;
"""
