"""What a study is: one version of a plan, with all its trials and the stages that they share."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.spec.claim import Claim
from prunectl.spec.key import Spec
from prunectl.spec.ranges import Amount, Count, Moment
from prunectl.spec.selection import Selection
from prunectl.spec.stage import Stage
from prunectl.spec.task import Metric, TaskMetrics, metrics_of
from prunectl.spec.trial import Trial


class PlannedStage(msgspec.Struct, frozen=True):
    """A stage as its plan recorded it."""

    spec: Annotated[
        Spec, Meta(description="all that decides the stage's numbers, as in its spec.json")
    ]
    steps: Annotated[Count, Meta(description="optimizer steps the stage trains, as planned")]
    epoch_steps: Annotated[Amount | None, Meta(description="optimizer steps per epoch")] = None

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.spec.stage


class Study(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One version of a plan."""

    created: Annotated[
        Moment | str | None,
        Meta(description="when this version was last run, Unix seconds"),
    ] = None
    used_there: Annotated[
        Moment | str | None,
        Meta(
            description="when this version was last run where it was imported from, Unix seconds; null where it was "
            "not imported beside other versions of its plan"
        ),
    ] = None
    made: Annotated[
        Moment | str | None,
        Meta(
            description="when this version was first run, Unix seconds; null in records of before this was kept, where "
            "`created` stands for it"
        ),
    ] = None
    digest: Annotated[
        str,
        Meta(
            description="identifies this version of the plan and what it resolves to, 16 hex digits"
        ),
    ]
    name: Annotated[str, Meta(description="name of the plan")]
    file: Annotated[str, Meta(description="the file that the plan was read from")] = ""
    text: Annotated[str, Meta(description="the plan's TOML")] = ""
    overrides: Annotated[
        tuple[str, ...], Meta(description="`--set` options given with the plan")
    ] = ()
    question: Annotated[
        str, Meta(description="the question the plan asks: its first comment line")
    ] = ""
    axes: Annotated[
        tuple[str, ...], Meta(description="keys that the plan's grid varies, dotted")
    ] = ()
    claims: Annotated[
        tuple[Claim, ...], Meta(description="what the plan claims of its methods, in its order")
    ] = ()
    selections: Annotated[
        tuple[Selection, ...],
        Meta(
            description="methods that are chosen out of a sweep by validation, in the plan's order; left out where "
            "there are none"
        ),
    ] = ()
    tasks: Annotated[
        dict[str, TaskMetrics],
        Meta(description="what the tasks of its trials measure, by name, without classification"),
    ] = {}
    trials: Annotated[tuple[Trial, ...], Meta(description="its trials, in the order of the grid")]
    stages: Annotated[
        dict[str, PlannedStage], Meta(description="its stages by key, a shared one once")
    ]

    @cached_property
    def steps(self) -> int:
        """Steps of all its stages, each counted once."""
        return sum(stage.steps for stage in self.stages.values())

    def score_of(self, task: str) -> Metric:
        """Return what networks of a task are ranked by."""
        return metrics_of(self.tasks, task).score
