"""Lengths of training: epochs, optimizer steps ("iterations"), or both, never bare numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator

from prunectl.spec.batch_layout import Layout
from prunectl.spec.ranges import MOST_EPOCHS, MOST_STEPS

_PATTERN = re.compile(r"(?:([0-9]+(?:\.[0-9]+)?)ep)?(?:([0-9]+)it)?")
_DIGITS = 40
"""Of a number: more are no length, and Python refuses to read more than 4,300."""


@dataclass(frozen=True)
class Length:
    """Epochs plus steps."""

    epochs: Fraction = Fraction(0)
    steps: int = 0

    @classmethod
    def parse(cls, text: object) -> Length:
        """Read a length from ``"182ep"``, ``"71108it"``, ``"3ep200it"`` or ``"0.5ep"``.

        Raises ValueError for anything else, a bare number above all, and for more than `MOST_EPOCHS` or `MOST_STEPS`.
        """
        if isinstance(text, Length):
            return text
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if not match or not text:
            raise ValueError('a length is epochs or steps: "182ep", "71108it", "3ep200it"')
        too_long = max(len(part or "") for part in match.groups()) > _DIGITS
        found = None if too_long else cls(Fraction(match[1] or 0), int(match[2] or 0))
        if found is None or found.epochs > MOST_EPOCHS or found.steps > MOST_STEPS:
            raise ValueError(f"at most {MOST_EPOCHS:,} epochs and {MOST_STEPS:,} steps")
        return found

    def to_steps(self, layout: Layout) -> int:
        """Convert to optimizer steps; a part of a step counts as one, so that n epochs are at least n epochs.

        This is how the rewind points of Renda et al.'s data come out: 10 epochs of 390.625 are 3,907 steps.
        """
        return layout.steps(self.epochs) + self.steps

    def __str__(self) -> str:
        epochs = f"{float(self.epochs):g}ep" if self.epochs else ""
        steps = f"{self.steps}it" if self.steps or not self.epochs else ""
        return epochs + steps


LengthField = Annotated[Length, BeforeValidator(Length.parse)]
"""A pydantic field that reads lengths."""
