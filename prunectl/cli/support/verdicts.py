"""Verdicts on stages that were run again, in words."""

from __future__ import annotations

from collections.abc import Mapping

from prunectl.store.records.replication import VerdictName

VERDICTS: dict[VerdictName, str] = {
    "identical": "bit-identical",
    "within": "within tolerance",
    "incomparable": "not comparable",
    "different": "different",
}


def verdict_counts(counts: Mapping[VerdictName, int]) -> str:
    """Return ``3 bit-identical, 0 within tolerance, 0 not comparable, 0 different``."""
    return ", ".join(f"{counts.get(name, 0)} {words}" for name, words in VERDICTS.items())
