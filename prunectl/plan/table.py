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


def _full_or_length(value: object) -> object:
    return value if value == "full" else Length.parse(value)


FullOrLength = Annotated[Literal["full"] | Length, BeforeValidator(_full_or_length)]


class Table(BaseModel):
    """A TOML table: closed to unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
