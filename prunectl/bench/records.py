"""What a bench's processes say to each other, and what `bench --json` prints: a struct each, with a unit per field.

A contender's process is started with a `Start` as its argument. It prints a line `Ready`, and a line `RoundDone` for
each line that it reads. The results name fields as scripts know them, which is why slots are `lanes` there.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from prunectl.spec.ranges import Amount, Count

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Kind = Literal["stage", "trainer", "bare", "loader"]
"""A contender's name in `baselines.CONTENDERS`."""
Load = tuple[float, float, float]
"""Processes that ran or waited, on average over 1, 5 and 15 minutes."""
Loads = Annotated[tuple[Load, Load], Meta(description="before and after")]


class Work(msgspec.Struct, frozen=True):
    """`epochs` epochs of training a pruned network, each followed by an evaluation: what one round asks for."""

    network: Annotated[str, Meta(description="a name that `ml.networks.registry` knows")]
    shape: Annotated[tuple[int, int, int], Meta(description="channels, height, width of one image")]
    train: Annotated[Count, Meta(description="training images")]
    test: Annotated[Count, Meta(description="test images")]
    epochs: Annotated[Count, Meta(description="of one round")] = 2
    batch: Annotated[Count, Meta(description="images per step")] = 128
    classes: Annotated[Count, Meta(description="of the images")] = 10
    pad: Annotated[
        Count,
        Meta(description="pixels of zeros on each side before a random crop and flip; 0: neither"),
    ] = 0
    precision: Annotated[Precision, Meta(description="of training and evaluation")] = "fp32"
    device: Annotated[str, Meta(description="as torch names it")] = "cpu"
    deterministic: Annotated[bool, Meta(description="the same bits at each repetition")] = True

    @property
    def steps(self) -> int:
        """Optimizer steps of one epoch; the short last batch is kept."""
        return -(-self.train // self.batch)

    @property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Constants that images are normalised by."""
        return (0.5,) * self.shape[0], (0.2,) * self.shape[0]


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a contender does the work, each for the contenders that have it."""

    workers: Annotated[
        Count, Meta(description="processes of a DataLoader; 0: it loads in the loop's own")
    ] = 0
    graphs: Annotated[bool, Meta(description="steps are captured as CUDA graphs")] = True
    fuse: Annotated[bool, Meta(description="with fused kernels")] = False
    slots: Annotated[Count, Meta(description="trainers side by side in one round")] = msgspec.field(
        default=1, name="lanes"
    )
    folder: Annotated[
        str,
        Meta(description="for files, removed with the contender's process; absent from results"),
    ] = ""


class Start(msgspec.Struct, frozen=True):
    """What a contender's process is started with."""

    contender: Annotated[Kind, Meta(description="who does the work")]
    work: Annotated[Work, Meta(description="of each round")]
    options: Annotated[Options, Meta(description="of the contender, its folder included")]


class Ready(msgspec.Struct, frozen=True, tag_field="is", tag="ready"):
    """The contender has done a round to warm up, and waits."""


class RoundDone(msgspec.Struct, frozen=True, tag_field="is", tag="done"):
    """It has done a round."""

    seconds: Annotated[Amount, Meta(description="of the whole round")]


class Times(msgspec.Struct, frozen=True):
    """Times of one thing that was repeated."""

    label: Annotated[str, Meta(description="what was timed")]
    seconds: Annotated[Amount, Meta(description="median")]
    fastest: Annotated[Amount, Meta(description="seconds")]
    slowest: Annotated[Amount, Meta(description="seconds")]


class Row(Times, frozen=True):
    """A contender's rounds against the first one's of the same rounds; times are seconds per epoch of the work's
    images, or of a whole study."""

    ratio: Annotated[
        Amount, Meta(description="times the first contender's, geometric mean over rounds")
    ]
    low: Annotated[
        float | None, Meta(description="of the ratio's 95 % interval; null for a single round")
    ]
    high: Annotated[float | None, Meta(description="its other end")]
    rounds: Annotated[Count, Meta(description="that were timed")]


class ContenderRow(Row, frozen=True):
    """The same of a contender of `bench train`."""

    slots: Annotated[Count, Meta(description="trainers side by side in one round")] = msgspec.field(
        name="lanes"
    )
    options: Annotated[Options, Meta(description="of the contender")]


class Gaps(Times, frozen=True):
    """Times between two stages."""

    gaps: Annotated[Count, Meta(description="that were timed")]


class EpochWork(Work, frozen=True, kw_only=True):
    """The work of `bench train` as its result tells it."""

    steps: Annotated[Count, Meta(description="optimizer steps of one epoch")]


class StudyWork(EpochWork, frozen=True, kw_only=True):
    """The work of each stage of `bench study`."""

    stages: Annotated[Count, Meta(description="of the whole study")]


class TrainResult(msgspec.Struct, frozen=True):
    """A table of `bench train`."""

    work: Annotated[EpochWork, Meta(description="of the first contender")]
    load: Loads
    measured: Annotated[tuple[ContenderRow, ...], Meta(description="seconds per epoch")]
    slots_worth_having: Annotated[
        int | UnsetType,
        Meta(description="doubled while that makes an epoch 5 % cheaper; absent on a CPU"),
    ] = msgspec.field(default=UNSET, name="lanes_worth_having")


class StudyResult(msgspec.Struct, frozen=True):
    """What `bench study` finds."""

    work: StudyWork
    load: Loads
    measured: Annotated[tuple[Row, ...], Meta(description="seconds from start to end")]


class Upkeep(msgspec.Struct, frozen=True):
    """What the scheduler's own process needs while workers report to it, over a window of time."""

    workers: Annotated[Count, Meta(description="that report")]
    stages: Annotated[Count, Meta(description="of the study")]
    epoch_seconds: Annotated[Amount, Meta(description="in which a worker reports an epoch")]
    seconds: Annotated[Amount, Meta(description="of the window")]
    load: Loads
    epochs_recorded: Annotated[Count, Meta(description="in the window")]
    stages_ended: Annotated[Count, Meta(description="in the window")]
    cpu_percent: Annotated[float, Meta(description="of one core, all threads")]
    loop_percent: Annotated[float, Meta(description="of one core, its main thread")]
    ingestion_percent: Annotated[float, Meta(description="of one core, its other threads")]
    rss_start_mib: Annotated[Amount, Meta(description="resident memory, MiB")]
    rss_end_mib: Annotated[Amount, Meta(description="resident memory, MiB")]


class Fleet(msgspec.Struct, frozen=True):
    """What the scheduler costs with many simulated machines, in the time of their world."""

    devices: Count
    slots: Annotated[Count, Meta(description="of each device")]
    stages: Annotated[Count, Meta(description="of the study")]
    seconds: Annotated[Amount, Meta(description="of the window, in the world")]
    stages_ended: Annotated[Count, Meta(description="in the window")]
    plan_seconds: Annotated[Amount, Meta(description="CPU to lay the plan out and record it")]
    start_seconds: Annotated[Amount, Meta(description="CPU from the record to full slots")]
    cpu_percent: Annotated[float, Meta(description="of one core, for the scheduler alone")]
    cpu_ms_per_stage: Amount
    rss_mib: Annotated[Amount, Meta(description="resident memory of all of it at the end, MiB")]


class SchedulerResult(msgspec.Struct, frozen=True):
    """What `bench scheduler` finds."""

    work: Annotated[Work, Meta(description="of each stage between which gaps are timed")]
    load: Loads
    gaps: tuple[Gaps, ...]
    upkeep: Upkeep
    fleet: Fleet


class Machine(msgspec.Struct, frozen=True):
    """What was measured on."""

    cpu: Annotated[str, Meta(description="model of the processor")]
    cores: Annotated[Count, Meta(description="that a run would use")]
    threads: Annotated[int | None, Meta(description="of the hardware; null where unknown")]
    python: Annotated[str, Meta(description="version")]
    torch: Annotated[str, Meta(description="version")]
    torchvision: Annotated[str, Meta(description="version")]
    prunectl: Annotated[str, Meta(description="version")]


Found = TypeVar("Found", TrainResult, StudyResult, SchedulerResult)


class Report(msgspec.Struct, Generic[Found], frozen=True):
    """What `bench --json` prints."""

    bench: Annotated[str, Meta(description="the command's name")]
    date: Annotated[str, Meta(description="YYYY-MM-DD, local")]
    machine: Machine
    results: tuple[Found, ...]


def epoch_work(work: Work) -> EpochWork:
    """Return the work with the steps of its epochs."""
    return EpochWork(**msgspec.structs.asdict(work), steps=work.steps)


def study_work(work: Work, stages: int) -> StudyWork:
    """Return the work of each of so many stages."""
    return StudyWork(**msgspec.structs.asdict(epoch_work(work)), stages=stages)
