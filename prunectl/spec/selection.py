"""What a selection is: one method made of a sweep, each seed's option being the one with the best validation score."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Over = Literal["lr_window", "retrain"]


class SelectedCell(msgspec.Struct, frozen=True):
    """One cell of the method, and what is chosen among for it."""

    cell: Annotated[str, Meta(description="id of the cell that is made so, 16 hex digits")]
    options: Annotated[
        tuple[str, ...],
        Meta(
            description="the cells that are chosen among, in the order of the grid; those of the same stages once"
        ),
    ]


class Selection(msgspec.Struct, frozen=True):
    """A sweep whose options are no methods of their own: for each seed and level the best by validation stands for all.

    It costs what all of its options cost.
    """

    strategy: Annotated[
        str,
        Meta(
            description="what tables call it: its name in the plan, with @ and six digits of what it is chosen among"
        ),
    ]
    over: Annotated[
        Over,
        Meta(
            description="what the options differ in: the window of the learning rates, or the length of retraining"
        ),
    ]
    by: Annotated[Literal["validation"], Meta(description="the score that decides")]
    cells: Annotated[
        tuple[SelectedCell, ...], Meta(description="its cells, in the order of the grid")
    ]
