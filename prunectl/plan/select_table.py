"""The table `[[select]]` of a plan as a pydantic model."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from prunectl.plan.table import Table, Values
from prunectl.spec.selection import Over

MOST_LETTERS = 64
_NAME = re.compile(r"[A-Za-z0-9(](?:[A-Za-z0-9 ,._+()-]*[A-Za-z0-9._+()-])?")
"""What labels and command lines take as it is: no @, which begins a label's digits, no = and no line break."""


def _no_rate_of_the_dense(over: object) -> object:
    if isinstance(over, str) and over.split(".")[-1] == "lr":
        raise ValueError(
            "another rate of the dense training makes other dense networks, whose results stand in tables of their "
            "own: a sweep is over lr_window or retrain"
        )
    return over


def _never_by_test(by: object) -> object:
    if by == "test":
        raise ValueError(
            "what is chosen on the test set is flattered by it: choose by validation; the table `selections` and "
            "`prunectl rank` then say how much choosing on the test set would have flattered"
        )
    return by


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > MOST_LETTERS:
        raise ValueError(
            f"a name is at most {MOST_LETTERS} letters, digits, spaces and , . _ + - ( ), the first and the last of "
            "them neither a space nor a comma"
        )
    return name


class SelectTable(Table):
    """A method made of a sweep: for each seed and level the option with the best validation score.

    See spec.selection.Selection.
    """

    name: Annotated[str, AfterValidator(_plain)] | None = None
    over: Annotated[Over, BeforeValidator(_no_rate_of_the_dense)]
    among: Values[str] | None = None
    """Strategies of the grid; all that can be options unless given."""
    by: Annotated[Literal["validation"], BeforeValidator(_never_by_test)]
