"""Ranges of numbers: what keys, JSON, the columns of the database and torch carry alike.

Plans are held to them where they are read (`plan.table`), records where they are decoded (`store.records`): nothing
that has come in by one of these doors is too large, too small or not finite for what follows.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

BIGGEST = 2**63 - 1
"""Of whole numbers: DuckDB's BIGINT and TOML's integers hold no more. Randomness takes any seed."""
EXACT = 2**53
"""Whole numbers up to here are the same as floats, which averages and other readers of JSON make of them; a thousand
of them still add up to a BIGINT."""
SMALL = 2**31 - 1
"""DuckDB's INTEGER: iterations, evaluations, attempts, classes."""
MOST_STEPS = 10**12
"""Of a training. A million stages of so many steps add up to a BIGINT; at 100,000 steps a second one takes 116 days."""
MOST_EPOCHS = 10**9
"""Of a length, so that it is multiplied before it is compared with `MOST_STEPS`."""
MOST_BATCH = 10**6
"""Images: so that the place of the last image of `MOST_STEPS` batches is a BIGINT, too."""
MOST_SLOTS = 1000
"""Of a device: each is a process on the CPU, and a stream or a process on a CUDA device."""
MOST_CLASSES = 2**16
"""Of a network whose predictions are kept, so that each takes two bytes; others have none."""
MOST_ITEMS = 10**7
"""Of a test set whose labels and predictions are kept: a file of 20 MB for each stage."""
LARGE = 1e100
"""Of what was measured: the squares of a million such numbers can be added up. float32 ends at 3.4e38."""
LEAST_FLOAT32, MOST_FLOAT32 = 1e-37, 1e38
"""What float32 holds with all its digits, and without becoming 0 or infinite."""
LAST_MOMENT = 253_402_300_799
"""The end of the year 9999, Unix seconds: calendars end there."""

Seed = Annotated[int, Meta(ge=0, le=BIGGEST)]
Whole = Annotated[int, Meta(ge=-BIGGEST, le=BIGGEST)]
Count = Annotated[int, Meta(ge=0, le=EXACT)]
Small = Annotated[int, Meta(ge=0, le=SMALL)]
Real = Annotated[float, Meta(ge=-LARGE, le=LARGE)]
Amount = Annotated[float, Meta(ge=0, le=LARGE)]
Percent = Annotated[float, Meta(ge=0, le=100)]
ClassNumber = Annotated[int, Meta(ge=0, le=MOST_CLASSES - 1)]
Moment = Annotated[float, Meta(ge=0, le=LAST_MOMENT)]
"""Unix seconds."""
FRACTION = r"^(0|1|0\.[0-9]{1,250})\Z"
Fraction01 = Annotated[str, Meta(pattern=FRACTION)]
"""A fraction of weights, 0 to 1, as exact decimals; those of plans have up to 200 digits."""
