"""The tables of a plan as pydantic models: unknown keys are rejected, types are taken literally.

The models hold what stands in the file; `expand` turns them into trials and stages.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from pydantic import BeforeValidator, Field, create_model, field_validator, model_validator

from prunectl.plan.seeds import SeedItems, SeedTable, check_distinct
from prunectl.plan.select_table import SelectTable
from prunectl.plan.table import (
    Amount,
    Batch,
    BelowOne,
    Bool,
    Count,
    EndOrLength,
    FullOrLength,
    Name,
    Number,
    Positive,
    Share,
    Slots,
    Table,
    Values,
)
from prunectl.spec.claim import NEEDS_MARGIN, Relation
from prunectl.spec.length import Length, LengthField
from prunectl.spec.settings import AugmentSettings, OptimizerSettings
from prunectl.spec.task import DEFAULT_TASK

MOST_MILESTONES = 1000
"""They are part of every stage."""

_STRICT: dict[Any, Any] = {
    int: Count,
    float: Amount,
    bool: Bool,
    tuple[float, float]: tuple[Amount, Amount],
}


def _table_of(settings: type[Any], ranges: dict[str, Any], **checks: Any) -> type[Table]:
    """Make a table with the fields, types and defaults of a settings struct, so that each is written once.

    `ranges` are types of fields that hold less than others of their kind.
    """
    hints = get_type_hints(settings)
    fields: dict[str, Any] = {}
    for item in msgspec.structs.fields(settings):
        kind = hints[item.name]
        fields[item.name] = (ranges.get(item.name, _STRICT.get(kind, kind)), item.default)
    validators: dict[str, Any] = {
        name: model_validator(mode="after")(check) for name, check in checks.items()
    }
    made: type[Table] = create_model(
        settings.__name__, __base__=Table, __validators__=validators, **fields
    )
    return made


def _one_crop(table: Any) -> Any:
    if table.crop == "none":
        usual = AugmentSettings()
        if (table.scale, table.ratio) != (usual.scale, usual.ratio):
            raise ValueError('scale and ratio belong to crop = "random-resized"')
    elif table.pad:
        raise ValueError('pad belongs to crop = "none"')
    low, high = table.scale
    if not 0 < low <= high <= 1:
        raise ValueError("scale is two fractions of the image's area, the smaller first")
    if not 0 < table.ratio[0] <= table.ratio[1]:
        raise ValueError("ratio is two ratios of width to height, the smaller first")
    return table


def _momentum_with_nesterov(table: Any) -> Any:
    if table.nesterov and table.name == "sgd" and not table.momentum:
        raise ValueError("nesterov needs a momentum above 0")
    return table


OptimizerTable = _table_of(
    OptimizerSettings,
    {"momentum": Share, "beta1": BelowOne, "beta2": BelowOne},
    with_nesterov=_momentum_with_nesterov,
)
AugmentTable = _table_of(AugmentSettings, {"ratio": tuple[Positive, Positive]}, one_crop=_one_crop)


class LearningRates(Table):
    """The learning-rate schedule of the dense training."""

    kind: Literal["constant", "step", "linear", "cosine"]
    lr: Positive
    milestones: Annotated[tuple[LengthField, ...], Field(max_length=MOST_MILESTONES)] = ()
    gamma: Annotated[Positive, Field(lt=1)] = 0.1
    end: Amount = 0.0
    warmup: LengthField = Length()

    @model_validator(mode="after")
    def _milestones_with_step(self) -> LearningRates:
        if (self.kind == "step") != bool(self.milestones):
            raise ValueError('milestones belong to kind = "step", which needs at least one')
        return self


class Normalization(Table):
    """Constants per channel (the data set's own, or given), or each image by itself."""

    kind: Literal["channel", "image"] = "channel"
    mean: Literal["dataset"] | tuple[Number, ...] = "dataset"
    std: Literal["dataset"] | tuple[Number, ...] = "dataset"


class NetworkConstants(Table):
    """Constants of the layers that recipes differ in; see spec.settings.NetworkSettings."""

    bn_momentum: Annotated[Positive, Field(le=1)] = 0.1
    bn_eps: Positive = 1e-5
    initializer: Literal["pytorch", "he-uniform", "he-normal", "renda2020"] = "he-normal"
    shortcut: Literal["projection", "projection-without-bn", "projection-everywhere", "padding"] = (
        "projection"
    )


class Validation(Table):
    """A split held out from the training or the test set."""

    taken_from: Annotated[Literal["none", "train", "test"], Field(alias="from")] = "none"
    count: Count = 0

    @model_validator(mode="after")
    def _both_or_neither(self) -> Validation:
        if (self.taken_from == "none") != (self.count == 0):
            raise ValueError("a validation split needs both `from` and a `count` above 0")
        return self


class Recipe(Table):
    """How a network is trained; every constant of a paper is a field."""

    source: str = ""
    unverified: tuple[str, ...] = ()
    """Fields whose value could not be checked against the source."""
    task: str = DEFAULT_TASK
    """A name `ml.tasks.registry` knows; `plan.tasks` checks it, and what else belongs to it."""
    length: LengthField
    batch: Batch = 128
    batches: Literal["epoch", "straddle"] = "epoch"
    last_batch: Literal["keep", "drop"] = "keep"
    micro_batch: Batch | None = None
    """Images that pass through the network at once; the whole batch unless it is given."""
    evaluate: EndOrLength = Length.parse("1ep")
    optimizer: OptimizerTable = OptimizerTable()  # type: ignore[valid-type]
    schedule: LearningRates
    label_smoothing: BelowOne = 0.0
    augment: AugmentTable = AugmentTable()  # type: ignore[valid-type]
    normalize: Normalization = Normalization()
    network: NetworkConstants = NetworkConstants()
    validation: Validation = Validation()
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    deterministic: Bool = True
    optimizer_state: Literal["fresh", "carried"] = "fresh"
    retrain: dict[str, FullOrLength] = Field(default_factory=dict)
    """The default length of retraining, by strategy."""


class DenseWeights(Table):
    """Weights from the dense run at a step, or at a fraction of its length."""

    dense: Annotated[
        LengthField | Share,
        BeforeValidator(lambda v: v if isinstance(v, float | int) else Length.parse(v)),
    ]


class WindowFrom(Table):
    """The schedule from a step on."""

    start: Annotated[LengthField, Field(alias="from")]


class ConstantRate(Table):
    """One learning rate throughout."""

    constant: Positive


class Strategy(Table):
    """What happens after pruning: which weights, which window of the schedule, for how long."""

    weights_from: Literal["parent", "rewound", "init"] | DenseWeights
    lr_window: Literal["from-start", "rewound", "last-value"] | WindowFrom | ConstantRate
    retrain: FullOrLength | None = None
    optimizer_state: Literal["fresh", "carried"] | None = None
    batchnorm: Literal["source", "parent"] = "source"


class Skip(Table):
    """Combinations that the grid leaves out: those that have all these values."""

    network: str | None = None
    dataset: str | None = None
    strategy: str | None = None
    schedule: Literal["one-shot", "iterative"] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Skip:
        if not self.model_fields_set:
            raise ValueError("an empty table would skip everything")
        return self


class Grid(Table):
    """Every combination is a trial for each of the seeds. `recipe` and `pruning` hold lists for any of their keys.

    `retrain` is the length of retraining of those strategies that do not fix it themselves.
    """

    network: Values[str]
    dataset: Values[str]
    strategy: Values[str]
    retrain: Values[FullOrLength] | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    pruning: dict[str, Any] = Field(default_factory=dict)
    skip: tuple[Skip, ...] = ()

    @field_validator("network", "dataset", "strategy", "retrain")
    @classmethod
    def _no_duplicates(cls, values: tuple[object, ...] | None) -> tuple[object, ...] | None:
        seen: set[object] = set()
        for value in values or ():
            if value in seen:
                raise ValueError(f"duplicate: {value}")
            seen.add(value)
        return values


class RunTable(Table):
    """How to run it on this machine: never part of a stage's identity."""

    slots_per_device: Slots | Literal["auto"] | None = None
    slots_by: Literal["streams", "processes"] | None = None
    devices: str | None = None


class ClaimTable(Table):
    """What the plan claims of two of its methods before it is run; see spec.claim.Claim.

    What is left out of the scope is all of the plan.
    """

    a: str
    b: str
    relation: Relation
    margin: Amount = 0.0
    text: str = ""
    network: Values[str] | None = None
    dataset: Values[str] | None = None
    recipe: Values[str] | None = None
    structure: Values[Literal["unstructured", "structured"]] | None = None
    schedule: Values[Literal["one-shot", "iterative"]] | None = None
    compression: tuple[Positive, Positive] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ClaimTable:
        if self.relation in NEEDS_MARGIN and not self.margin:
            raise ValueError(
                f'"{self.relation}" needs a margin above 0: no number of seeds shows that a difference is exactly 0'
            )
        if self.a == self.b:
            raise ValueError("a and b are the same method")
        if self.compression is not None and not 1 <= self.compression[0] < self.compression[1]:
            raise ValueError("compression is two numbers from 1 on, the smaller first")
        return self


class PlanFile(Table):
    """A whole plan. `recipe` and `pruning` are checked once the grid's values are filled in."""

    name: Name
    seeds: SeedItems
    grid: Grid
    recipe: dict[str, Any] = Field(default_factory=dict)
    pruning: dict[str, Any] = Field(default_factory=dict)
    strategies: dict[Name, Strategy] = Field(default_factory=dict)
    datasets: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    claims: tuple[ClaimTable, ...] = ()
    select: tuple[SelectTable, ...] = ()
    run: RunTable = RunTable()

    @field_validator("select", mode="before")
    @classmethod
    def _several(cls, tables: object) -> object:
        if isinstance(tables, dict):
            raise ValueError("a plan may have several: write [[select]]")
        return tables

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int | SeedTable, ...]) -> tuple[int | SeedTable, ...]:
        return check_distinct(seeds)
