"""What all tables of a plan are made of: closed to unknown keys, frozen, types taken literally."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, StringConstraints

from prunectl.spec.length import Length
from prunectl.spec.ranges import BIGGEST, LEAST_FLOAT32, MOST_BATCH, MOST_FLOAT32, MOST_SLOTS, SMALL

T = TypeVar("T")
Values = Annotated[tuple[T, ...], Field(min_length=1, fail_fast=True)]
"""The first mistake among them is enough: of a million seeds a million would be collected."""
Int = Annotated[int, Strict()]
Seed = Annotated[Int, Field(ge=0, le=BIGGEST)]
Count = Annotated[Int, Field(ge=0, le=SMALL)]
Batch = Annotated[Int, Field(ge=1, le=MOST_BATCH)]
Slots = Annotated[Int, Field(ge=1, le=MOST_SLOTS)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False, ge=-MOST_FLOAT32, le=MOST_FLOAT32)]
Amount = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(ge=LEAST_FLOAT32)]
Share = Annotated[Number, Field(ge=0, le=1)]
BelowOne = Annotated[Number, Field(ge=0, lt=1)]
LEAST_FRACTION = 1e-9
"""Less of a network of a billion weights is no weight."""
Fraction01 = Annotated[Number, Field(ge=LEAST_FRACTION, lt=1)]
Bool = Annotated[bool, Strict()]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]


def word_or_length(word: str) -> BeforeValidator:
    """Make a validator that reads lengths, and lets this word pass."""
    return BeforeValidator(lambda value: value if value == word else Length.parse(value))


FullOrLength = Annotated[Literal["full"] | Length, word_or_length("full")]
EndOrLength = Annotated[Literal["end"] | Length, word_or_length("end")]


class Table(BaseModel):
    """A TOML table: closed to unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
