"""What a plan may say, as pydantic models: unknown keys are rejected, types are taken literally.

The models hold what stands in the file; `expand` turns them into trials and stages.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal, localcontext
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    create_model,
    field_validator,
    model_validator,
)

from prunectl.core.settings import AugmentSettings, OptimizerSettings
from prunectl.plan.units import Length, LengthField

Int = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Bool = Annotated[bool, Strict()]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
Fraction01 = Annotated[Number, Field(gt=0, lt=1)]


def _full_or_length(value: object) -> object:
    return value if value == "full" else Length.parse(value)


FullOrLength = Annotated[Literal["full"] | Length, BeforeValidator(_full_or_length)]


class Table(BaseModel):
    """A TOML table: closed to unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _table_of(settings: type[Any], **checks: Any) -> type[Table]:
    """A table with the fields, types and defaults of a settings dataclass, so that each is written once."""
    hints = get_type_hints(settings)
    fields: dict[str, Any] = {}
    for item in dataclasses.fields(settings):
        kind = hints[item.name]
        strict = kind in (int, float, bool)
        fields[item.name] = (Annotated[kind, Strict()] if strict else kind, item.default)
    validators: dict[str, Any] = {
        name: model_validator(mode="after")(check) for name, check in checks.items()
    }
    made: type[Table] = create_model(
        settings.__name__, __base__=Table, __validators__=validators, **fields
    )
    return made


def _one_crop(table: Any) -> Any:
    if table.crop == "none":
        if (table.scale, table.ratio) != (AugmentSettings.scale, AugmentSettings.ratio):
            raise ValueError('scale and ratio belong to crop = "random-resized"')
    elif table.pad:
        raise ValueError('pad belongs to crop = "none"')
    low, high = table.scale
    if not 0 < low <= high <= 1:
        raise ValueError("scale is two fractions of the picture's area, the smaller first")
    if not 0 < table.ratio[0] <= table.ratio[1]:
        raise ValueError("ratio is two ratios of width to height, the smaller first")
    return table


OptimizerTable = _table_of(OptimizerSettings)
AugmentTable = _table_of(AugmentSettings, one_crop=_one_crop)


class LearningRates(Table):
    """The learning-rate schedule of the dense training."""

    kind: Literal["constant", "step", "linear", "cosine"]
    lr: Annotated[Number, Field(gt=0)]
    milestones: tuple[LengthField, ...] = ()
    gamma: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    end: Annotated[Number, Field(ge=0)] = 0.0
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
    """Constants of the layers that recipes differ in; see core.settings.NetworkSettings."""

    bn_momentum: Annotated[Number, Field(gt=0, le=1)] = 0.1
    bn_eps: Annotated[Number, Field(gt=0)] = 1e-5
    initializer: Literal["pytorch", "he-uniform", "he-normal", "renda2020"] = "he-normal"
    shortcut: Literal["projection", "projection-without-bn", "projection-everywhere", "padding"] = (
        "projection"
    )


class Validation(Table):
    """A split held out from the training or the test set."""

    taken_from: Annotated[Literal["none", "train", "test"], Field(alias="from")] = "none"
    count: Annotated[Int, Field(ge=0)] = 0

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
    length: LengthField
    batch: Annotated[Int, Field(ge=1)] = 128
    batches: Literal["epoch", "straddle"] = "epoch"
    last_batch: Literal["keep", "drop"] = "keep"
    micro_batch: Annotated[Int, Field(ge=1)] | None = None
    """Images that pass through the network at once; the whole batch unless it is given."""
    evaluate: Annotated[
        Literal["end"] | Length,
        BeforeValidator(lambda value: value if value == "end" else Length.parse(value)),
    ] = Length.parse("1ep")
    optimizer: OptimizerTable = OptimizerTable()  # type: ignore[valid-type]
    schedule: LearningRates
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    augment: AugmentTable = AugmentTable()  # type: ignore[valid-type]
    normalize: Normalization = Normalization()
    network: NetworkConstants = NetworkConstants()
    validation: Validation = Validation()
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    deterministic: Bool = True
    optimizer_state: Literal["fresh", "carried"] = "fresh"
    retrain: dict[str, FullOrLength] = {}
    """The default length of retraining, by strategy."""


class PruningSchedule(Table):
    """In one cut or step by step, to a list of sparsities or down a ladder of constant rate."""

    kind: Literal["one-shot", "iterative"]
    sparsities: tuple[Fraction01, ...] = ()
    rate: Fraction01 | None = None
    until: Fraction01 | None = None
    iterations: Annotated[Int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> PruningSchedule:
        ends = (self.until is not None) + (self.iterations is not None)
        if self.sparsities:
            if self.rate is not None or ends:
                raise ValueError("give either `sparsities` or `rate` with `until` or `iterations`")
            if any(b <= a for a, b in zip(self.sparsities, self.sparsities[1:], strict=False)):
                raise ValueError("sparsities must increase")
        elif self.rate is None or ends != 1:
            raise ValueError("needs `sparsities`, or `rate` with one of `until` and `iterations`")
        return self

    def densities(self) -> tuple[Decimal, ...]:
        """Fractions of the dense count kept at iteration 1, 2 …, exact: (1 − rate)ᵏ, or 1 − sparsity."""
        if self.sparsities:
            return tuple(1 - Decimal(repr(sparsity)) for sparsity in self.sparsities)
        assert self.rate is not None
        step = 1 - Decimal(repr(self.rate))
        out = [step]
        # Decimal's usual 28 digits would end the ladder of rate 0.15 being exact at k = 14.
        with localcontext(prec=200):
            while (
                len(out) < self.iterations
                if self.iterations is not None
                else 1 - out[-1] < Decimal(repr(self.until))
            ):
                out.append(out[-1] * step)
        return tuple(out)

    @property
    def label(self) -> str:
        """For tables: the kind, and the rate of an iterative ladder."""
        if self.kind == "one-shot":
            return "one-shot"
        if self.rate is not None:
            return f"iterative {self.rate:g}"
        return "iterative " + ",".join(f"{sparsity:g}" for sparsity in self.sparsities)


class Pruning(Table):
    """Which weights go, and in which steps."""

    schedule: PruningSchedule
    criterion: str = "magnitude"
    scope: Literal["global", "layerwise", "uniform"] = "global"
    granularity: Literal["weight", "channel"] = "weight"
    exclude: tuple[str, ...] = ()


class DenseWeights(Table):
    """Weights from the dense run at a step, or at a fraction of its length."""

    dense: Annotated[
        LengthField | Annotated[Number, Field(ge=0, le=1)],
        BeforeValidator(lambda v: v if isinstance(v, float | int) else Length.parse(v)),
    ]


class WindowFrom(Table):
    """The schedule from a step on."""

    start: Annotated[LengthField, Field(alias="from")]


class ConstantRate(Table):
    """One learning rate throughout."""

    constant: Annotated[Number, Field(gt=0)]


class Strategy(Table):
    """What happens after pruning: which weights, which window of the schedule, for how long."""

    weights_from: Literal["parent", "rewound", "init"] | DenseWeights
    lr_window: Literal["from-start", "rewound", "last-value"] | WindowFrom | ConstantRate
    retrain: FullOrLength | None = None
    optimizer_state: Literal["fresh", "carried"] | None = None
    batchnorm: Literal["source", "parent"] = "source"


class Grid(Table):
    """Every combination is a trial per seed. `recipe` and `pruning` hold lists for any of their keys."""

    network: Annotated[tuple[str, ...], Field(min_length=1)]
    dataset: Annotated[tuple[str, ...], Field(min_length=1)]
    strategy: Annotated[tuple[str, ...], Field(min_length=1)]
    retrain: Annotated[tuple[FullOrLength, ...], Field(min_length=1)] | None = None
    recipe: dict[str, Any] = {}
    pruning: dict[str, Any] = {}

    @field_validator("network", "dataset", "strategy", "retrain")
    @classmethod
    def _no_duplicates(cls, values: tuple[object, ...] | None) -> tuple[object, ...] | None:
        for index, value in enumerate(values or ()):
            if value in (values or ())[:index]:
                raise ValueError(f"duplicate: {value}")
        return values


class RunTable(Table):
    """How to run it on this machine: never part of a stage's identity."""

    slots_per_device: Annotated[Int, Field(ge=1)] | Literal["auto"] | None = None
    devices: str | None = None


class PlanFile(Table):
    """A whole plan. `recipe` and `pruning` are checked once the grid's values are filled in."""

    name: Name
    seeds: Annotated[tuple[Annotated[Int, Field(ge=0)], ...], Field(min_length=1)]
    grid: Grid
    recipe: dict[str, Any] = {}
    pruning: dict[str, Any] = {}
    strategies: dict[Name, Strategy] = {}
    datasets: dict[Name, dict[str, Any]] = {}
    run: RunTable = RunTable()

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("seeds must be distinct")
        return seeds
