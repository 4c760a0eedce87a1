"""What all tables of a plan are made of: closed to unknown keys, frozen, types taken literally."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, StringConstraints

from prunectl.spec.length import Length

Int = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Bool = Annotated[bool, Strict()]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
Fraction01 = Annotated[Number, Field(gt=0, lt=1)]


def word_or_length(word: str) -> BeforeValidator:
    """Make a validator that reads lengths, and lets this word pass."""
    return BeforeValidator(lambda value: value if value == word else Length.parse(value))


FullOrLength = Annotated[Literal["full"] | Length, word_or_length("full")]
EndOrLength = Annotated[Literal["end"] | Length, word_or_length("end")]


class Table(BaseModel):
    """A TOML table: closed to unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
