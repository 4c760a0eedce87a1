"""What a claim is: one method said to be better than another, as good, equal or worse, and where that is said."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from prunectl.spec.ranges import Amount

DENSE = "dense"
"""What a claim calls the own dense networks."""
Relation = Literal["better", "worse", "as-good", "equal"]
NEEDS_MARGIN: tuple[Relation, ...] = ("as-good", "equal")
"""Relations that say nothing without a margin above 0: no number of seeds shows a difference to be 0."""

Names = Annotated[
    tuple[str, ...], Meta(description="names or patterns such as resnet-*; all where it is empty")
]


class Scope(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a claim is said to hold; what is left out is everything."""

    network: Names = ()
    dataset: Names = ()
    recipe: Names = ()
    structure: Annotated[
        Names,
        Meta(
            description="unstructured (single weights), or structured (whole channels or filters)"
        ),
    ] = ()
    schedule: Annotated[
        Names,
        Meta(description="one-shot, iterative, or a schedule's whole label such as iterative 0.2"),
    ] = ()
    compression: Annotated[
        tuple[Amount, Amount] | None,
        Meta(description="the least and the most of dense weights / weights kept, as asked for"),
    ] = None

    def has_level(self, sparsity: float) -> bool:
        """Return whether a level, a sparsity from 0 to below 1, is inside the range of compression."""
        if self.compression is None:
            return True
        low, high = self.compression
        # 1e-9 forgives the last bits of 1/(1 − sparsity).
        return low * (1 - 1e-9) <= 1 / (1 - sparsity) <= high * (1 + 1e-9)


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """`a` against `b`, two strategies or "dense": stated before the numbers, judged by them after."""

    a: Annotated[
        str, Meta(description="the method that something is said of: a strategy, or dense")
    ]
    b: Annotated[str, Meta(description="the method that it is compared with")]
    relation: Annotated[
        Relation,
        Meta(
            description="better or worse: by more than the margin; as-good: worse by less than the margin, if at all; "
            "equal: apart by less than the margin"
        ),
    ]
    margin: Annotated[Amount, Meta(description="in the unit of the task's score")] = 0.0
    scope: Scope = Scope()
    text: Annotated[str, Meta(description="the claim in the plan's own words")] = ""

    @property
    def title(self) -> str:
        """The claim in words: the plan's, or made of its parts."""
        if self.text:
            return self.text
        said = {
            "better": "is better than",
            "worse": "is worse than",
            "as-good": "is as good as",
            "equal": "equals",
        }[self.relation]
        margin = f" (margin {self.margin:g})" if self.margin else ""
        return f"{self.a} {said} {self.b}{margin}"


def matches(patterns: tuple[str, ...], *names: str) -> bool:
    """Return whether one of the names is one of the patterns; without patterns everything matches."""
    return not patterns or any(fnmatchcase(name, each) for name in names for each in patterns)
