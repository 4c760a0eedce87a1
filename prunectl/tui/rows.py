"""From a snapshot to the rows of the dashboard's tables: pure, and known to the tests without a screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prunectl.snapshot import (
    CoverageView,
    DeviceView,
    EventView,
    FailureView,
    RunningView,
    Snapshot,
    TrialView,
)
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.keymap import hint

IDENTIFIER = 8
"""Digits of a trial's id that tables show."""
SPARK = 10

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Study:
    """What the trials of a snapshot have in common, so that tables name only what differs."""

    varied: tuple[str, ...] = ()
    """Labels beside the strategy that tell methods apart, in their order."""
    places: tuple[str, ...] = ()
    """Of network, dataset and recipe, those that differ."""
    plans: bool = False
    """Whether there are trials of several plans."""


METHOD_LABELS = ("criterion", "scope", "granularity", "schedule", "retrain")
PLACE_LABELS = ("network", "dataset", "recipe")


def study_of(trials: Iterable[TrialView]) -> Study:
    """Which labels vary. A retraining length that follows from the strategy tells nothing new."""
    values: dict[str, set[str]] = {name: set() for name in (*METHOD_LABELS, *PLACE_LABELS)}
    lengths: dict[str, set[str]] = {}
    plans = set()
    seen = set()
    for trial in trials:
        if trial.cell in seen:
            continue
        seen.add(trial.cell)
        plans.add(trial.plan)
        for name, known in values.items():
            known.add(trial.labels.get(name, ""))
        strategy = trial.labels.get("strategy", "")
        lengths.setdefault(strategy, set()).add(trial.labels.get("retrain", ""))
    varied = [name for name in METHOD_LABELS if len(values[name]) > 1]
    if "retrain" in varied and all(len(known) == 1 for known in lengths.values()):
        varied.remove("retrain")
    places = tuple(name for name in PLACE_LABELS if len(values[name]) > 1)
    return Study(tuple(varied), places, len(plans) > 1)


def method(labels: Labels, study: Study) -> str:
    """The strategy and whatever else tells methods apart."""
    return " ".join([labels.get("strategy") or t.DASH, *(labels.get(n, "") for n in study.varied)])


def place(labels: Labels, study: Study) -> str:
    """Network, data set and recipe as far as they differ."""
    return " ".join(labels.get(name, "") for name in study.places)


# running stages


@dataclass(frozen=True)
class RunningRow:
    """A stage at work."""

    key: str
    view: RunningView
    study: Study
    trouble: str = ""
    """Why it is marked, in a word; "" where all is well."""


def running_rows(snapshot: Snapshot, study: Study) -> list[RunningRow]:
    """In the order they were started."""
    return [RunningRow(view.key, view, study, trouble(view)) for view in snapshot.running]


def trouble(view: RunningView) -> str:
    """Whether a stage is going wrong: a loss that is no number, or an accuracy that fell by half."""
    epoch = view.epoch or {}
    for value in (view.loss, epoch.get("loss"), epoch.get("train_loss")):
        if value is not None and t.finite(value) is None:
            return "diverged"
    known = [value for value in map(t.finite, view.accuracies) if value is not None]
    if len(known) > 1 and known[-1] < max(known) / 2:
        return "collapsing"
    return ""


def phase(view: RunningView) -> str:
    """What the stage is to its trial."""
    if view.replay:
        return "replay"
    return "dense" if view.iteration == 0 else f"it {view.iteration}/{view.iterations}"


def _share(view: RunningView) -> float:
    return view.step / view.steps if view.steps else 0.0


def _epoch_value(view: RunningView, name: str) -> object:
    return (view.epoch or {}).get(name)


def _running_trial(row: RunningRow) -> Cell:
    names = row.view.trials
    if not names:
        return Cell(row.key[:IDENTIFIER], "dim")
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return Cell(names[0][:IDENTIFIER] + more)


def _epoch(row: RunningRow) -> Cell:
    """Steps done of all, short enough for a narrow column."""
    return Cell(f"{t.short(row.view.step)}/{t.short(row.view.steps)}")


def _last(row: RunningRow) -> Cell:
    accuracies = row.view.accuracies
    value = accuracies[-1] if accuracies else None
    return Cell(t.number(value), "bad" if row.trouble else "")


def _best(view: RunningView) -> float | None:
    return max((v for v in map(t.finite, view.accuracies) if v is not None), default=None)


RUNNING: tuple[Column[RunningRow], ...] = (
    Column("glyph", "", 1, lambda r: Cell("!", "bad") if r.trouble else Cell("▶", "accent")),
    Column("trial", "TRIAL", 12, _running_trial),
    Column("place", "NETWORK", 0, lambda r: Cell(place(r.view.labels, r.study))),
    Column("method", "METHOD", 13, lambda r: Cell(method(r.view.labels, r.study)), flex=True),
    Column("sparsity", "SPARS", 6, lambda r: Cell(t.sparsity(r.view.sparsity)), right=True,
           order=lambda r: float(r.view.sparsity)),
    Column("seed", "SEED", 4, lambda r: Cell(r.view.labels.get("seed", t.DASH)), right=True),
    Column("phase", "PHASE", 8, lambda r: Cell(phase(r.view)), rank=6,
           order=lambda r: r.view.iteration),
    Column("progress", "PROGRESS", 10, lambda r: Cell(t.bar(_share(r.view), 10), "accent"),
           order=lambda r: _share(r.view)),
    Column("steps", "STEP", 11, _epoch, right=True, rank=4, order=lambda r: r.view.step),
    Column("curve", "TEST ACC", SPARK, lambda r: Cell(t.spark(r.view.accuracies, SPARK), "good"),
           rank=3, order=lambda r: len(r.view.accuracies)),
    Column("last", "LAST", 6, _last, right=True, order=lambda r: t.finite((r.view.accuracies or (None,))[-1])),
    Column("best", "BEST", 6, lambda r: Cell(t.number(_best(r.view))), right=True, rank=7,
           order=lambda r: _best(r.view)),
    Column("loss", "LOSS", 7, lambda r: Cell(t.number(r.view.loss, 4), "bad" if r.trouble == "diverged" else ""),
           right=True, rank=8, order=lambda r: t.finite(r.view.loss)),
    Column("eta", "ETA", 6, lambda r: Cell(t.duration(r.view.eta)), right=True, order=lambda r: r.view.eta),
    Column("device", "DEVICE", 7, lambda r: Cell(r.view.device or t.DASH), rank=5),
)  # fmt: skip


# trials


@dataclass(frozen=True)
class TrialRow:
    """A trial of the list: in the queue, failed, or any."""

    key: str
    """Plan and trial: a trial can be in several plans."""
    view: TrialView
    study: Study
    position: int | None = None
    """In the queue, from 1."""
    seconds: float | None = None
    """That its next stage is expected to take."""
    now: float = 0.0


class TrialList:
    """The trials of snapshots as rows; a row is built anew only where its trial has changed."""

    def __init__(self) -> None:
        self._rows: dict[str, TrialRow] = {}
        self._study: Study | None = None
        self._by_name: dict[str, TrialView] = {}

    def update(self, snapshot: Snapshot, study: Study) -> None:
        """Take in a snapshot."""
        if study != self._study:
            self._rows, self._study = {}, study
        rows: dict[str, TrialRow] = {}
        known = self._rows
        for view in snapshot.trials:
            key = f"{view.plan}/{view.trial}"
            row = known.get(key)
            rows[key] = row if row is not None and row.view is view else TrialRow(key, view, study)
        self._rows = rows
        self._by_name = {view.trial: view for view in snapshot.trials}

    def all(self) -> list[TrialRow]:
        """Every trial in the order of its plan."""
        return list(self._rows.values())

    def unfinished(self) -> list[TrialRow]:
        """What failed, is blocked or was cancelled."""
        states = ("failed", "blocked", "cancelled")
        return [row for row in self._rows.values() if row.view.state in states]

    def queue(self, snapshot: Snapshot) -> list[TrialRow]:
        """What waits, first to start first."""
        rows = []
        for position, queued in enumerate(snapshot.queue, 1):
            view = self._by_name.get(queued.trial)
            if view is not None:
                key = f"{view.plan}/{view.trial}"
                rows.append(TrialRow(key, view, self._study or Study(), position, queued.seconds))
        return rows

    def trial(self, name: str) -> TrialView | None:
        """A trial by its id."""
        return self._by_name.get(name)


def goal(view: TrialView) -> str:
    """The sparsity of the iteration a trial is at."""
    return view.sparsities[view.iteration] if view.iteration < len(view.sparsities) else "0"


def why(view: TrialView) -> str:
    """What a trial waits for, or what became of it, in words."""
    if view.reason:
        return view.reason
    words = {"waiting": "for a free slot"}
    return words.get(view.state, view.state)


def _iteration(view: TrialView) -> str:
    last = len(view.path) - 1
    return "dense" if view.iteration == 0 else f"it {view.iteration}/{last}"


TRIALS: tuple[Column[TrialRow], ...] = (
    Column("position", "#", 4, lambda r: Cell("" if r.position is None else str(r.position), "dim"),
           right=True, order=lambda r: r.position, rank=6),
    Column("glyph", "", 1, lambda r: Cell(t.GLYPHS.get(r.view.state, "?"), t.STYLES.get(r.view.state, "")),
           order=lambda r: r.view.state),
    Column("trial", "TRIAL", IDENTIFIER, lambda r: Cell(r.view.trial[:IDENTIFIER])),
    Column("plan", "PLAN", 0, lambda r: Cell(r.view.plan if r.study.plans else "")),
    Column("place", "NETWORK", 0, lambda r: Cell(place(r.view.labels, r.study))),
    Column("method", "METHOD", 13, lambda r: Cell(method(r.view.labels, r.study)), flex=True),
    Column("sparsity", "SPARS", 6, lambda r: Cell(t.sparsity(goal(r.view))), right=True,
           order=lambda r: float(goal(r.view))),
    Column("seed", "SEED", 4, lambda r: Cell(str(r.view.seed)), right=True, order=lambda r: r.view.seed),
    Column("phase", "AT", 7, lambda r: Cell(_iteration(r.view)), rank=4, order=lambda r: r.view.iteration),
    Column("done", "DONE", 4, lambda r: Cell(_percent(r.view)), right=True, rank=5,
           order=lambda r: r.view.steps_done / r.view.steps if r.view.steps else 0.0),
    Column("estimate", "EST", 5, lambda r: Cell(t.duration(r.seconds) if r.position else ""), right=True, rank=7,
           order=lambda r: r.seconds),
    Column("priority", "PRI", 3, lambda r: Cell(f"{r.view.priority:+d}" if r.view.priority else ""), right=True,
           order=lambda r: r.view.priority, rank=8),
    Column("state", "STATE", 14, lambda r: Cell(why(r.view), t.STYLES.get(r.view.state, "")), flex=True),
)  # fmt: skip


def _percent(view: TrialView) -> str:
    return f"{100 * view.steps_done / view.steps:.0f}%" if view.steps else t.DASH


def fitted(columns: Sequence[Column[TrialRow]], study: Study) -> tuple[Column[TrialRow], ...]:
    """The columns with room for what varies, and without those that would be empty."""
    return tuple(_fitted(columns, study))


def fitted_running(study: Study) -> tuple[Column[RunningRow], ...]:
    """`RUNNING`, likewise."""
    return tuple(_fitted(RUNNING, study))


def _fitted(columns: Sequence[Column], study: Study) -> Iterable[Column]:  # type: ignore[type-arg]
    from dataclasses import replace

    for column in columns:
        if column.name == "place":
            if study.places:
                yield replace(column, width=9 * len(study.places), rank=2)
        elif column.name == "plan":
            if study.plans:
                yield replace(column, width=10, rank=3)
        else:
            yield column


# devices


@dataclass(frozen=True)
class DeviceRow:
    """A device, with how busy it was."""

    key: str
    view: DeviceView
    past: tuple[float | None, ...] = ()


def _device_state(row: DeviceRow) -> Cell:
    view = row.view
    if view.state == "drained":
        return Cell(f"drained ({hint('dashboard.drain', 'D')}: use it again)", "warn")
    if view.state == "leased":
        return Cell(f"leased: {view.reason}", "warn")
    busy = len(view.running)
    return Cell(
        f"{busy} of {t.plural(view.slots, 'slot')} busy"
        + (f" · {view.reason}" if view.reason else "")
    )


def _memory(view: DeviceView) -> float | None:
    used, total = t.finite(view.memory_used), t.finite(view.memory_total)
    return used / total if used is not None and total else None


def _watts(view: DeviceView) -> str:
    return t.DASH if t.finite(view.power) is None else f"{view.power:.0f}W"


DEVICES: tuple[Column[DeviceRow], ...] = (
    Column("id", "DEVICE", 7, lambda r: Cell(r.view.id, "bold")),
    Column("name", "NAME", 14, lambda r: Cell(r.view.name), rank=5),
    Column("utilisation", "BUSY", 15, lambda r: Cell(_gauge(r.view.utilisation, 9))),
    Column("memory", "MEMORY", 20, lambda r: Cell(_memory_gauge(r.view)), rank=3),
    Column("temperature", "°C", 3, lambda r: Cell(t.number(r.view.temperature, 0)), right=True, rank=2),
    Column("power", "POWER", 5, lambda r: Cell(_watts(r.view)), right=True, rank=4),
    Column("past", "LAST MINUTE", 14, lambda r: Cell(t.spark(r.past, 14, 0.0, 100.0), "good"), rank=6),
    Column("state", "SLOTS", 16, _device_state, flex=True),
)  # fmt: skip


def _gauge(percent: object, width: int) -> str:
    known = t.finite(percent)
    if known is None:
        return t.DASH
    return f"{t.boxed(known / 100, width)} {known:3.0f}%"


def _memory_gauge(view: DeviceView) -> str:
    share = _memory(view)
    if share is None:
        return t.DASH
    return f"{t.boxed(share, 9)} {t.size(view.memory_used)}/{t.size(view.memory_total)}"


# events


@dataclass(frozen=True)
class EventRow:
    """Something that happened."""

    key: str
    view: EventView
    what: str
    """The trials it is about, in words."""
    now: float


BAD_EVENTS = ("stage_failed", "blocked", "study_stopped")


def event_rows(
    snapshot: Snapshot, trials: TrialList, study: Study, failures: bool
) -> list[EventRow]:
    """Newest first; only those of failures where asked for."""
    rows = []
    for number, view in enumerate(snapshot.events):
        if failures and view.kind not in BAD_EVENTS:
            continue
        key = f"{view.time:.6f}/{view.kind}/{view.key or number}"
        rows.append(EventRow(key, view, _about(view, trials, study), snapshot.time))
    rows.reverse()
    return rows


def _about(view: EventView, trials: TrialList, study: Study) -> str:
    if not view.trials:
        return ""
    trial = trials.trial(view.trials[0])
    if trial is None:
        return view.trials[0][:IDENTIFIER]
    if view.key is not None and view.key in trial.path:
        iteration = trial.path.index(view.key)
        if iteration == 0:
            return f"dense seed {trial.seed}"
        return f"{method(trial.labels, study)} {t.sparsity(trial.sparsities[iteration])} seed {trial.seed}"
    return trial.trial[:IDENTIFIER]


def _event_style(view: EventView) -> str:
    if view.kind in BAD_EVENTS:
        return "bad"
    return "good" if view.kind == "stage_done" else ""


EVENTS: tuple[Column[EventRow], ...] = (
    Column("time", "TIME", 8, lambda r: Cell(t.clock(r.view.time), "dim"), order=lambda r: r.view.time),
    Column("what", "WHAT", 16, lambda r: Cell(" · ".join(x for x in (r.view.text, r.what) if x),
           _event_style(r.view)), flex=True),
)  # fmt: skip


# coverage


@dataclass(frozen=True)
class CoverageRow:
    """One method: how many seeds have reached each sparsity."""

    key: str
    label: str
    cells: Mapping[str, CoverageView]


def coverage_rows(snapshot: Snapshot, study: Study) -> tuple[list[CoverageRow], list[str]]:
    """Rows and their sparsities, ascending."""
    table: dict[str, dict[str, CoverageView]] = {}
    names: dict[str, str] = {}
    for view in snapshot.coverage:
        parts = [
            view.plan if study.plans else "",
            place(view.labels, study),
            method(view.labels, study),
        ]
        key = f"{view.plan}/{sorted(view.labels.items())}"
        names[key] = " ".join(part for part in parts if part)
        table.setdefault(key, {})[view.sparsity] = view
    columns = sorted({view.sparsity for view in snapshot.coverage}, key=float)
    return [CoverageRow(key, names[key], cells) for key, cells in table.items()], columns


def coverage_cell(view: CoverageView | None) -> Cell:
    """Seeds done, ▶ while some are at it, ! where some failed."""
    if view is None:
        return Cell("")
    mark = "!" if view.failed else "▶" if view.running else ""
    style = (
        "bad"
        if view.failed
        else "good"
        if view.done >= view.total
        else "accent"
        if view.running
        else ""
    )
    return Cell(f"{view.done or '·'}{mark}", style)


def coverage_columns(
    sparsities: Sequence[str], rows: Sequence[CoverageRow]
) -> tuple[Column[CoverageRow], ...]:
    """The label, then a column per sparsity."""
    wide = min(24, max((len(row.label) for row in rows), default=8))
    first: Column[CoverageRow] = Column("method", "METHOD", wide, lambda r: Cell(r.label))

    def column(sparsity: str) -> Column[CoverageRow]:
        heading = t.sparsity(sparsity).removeprefix("0")
        return Column(
            sparsity,
            heading,
            max(4, len(heading)),
            lambda r: coverage_cell(r.cells.get(sparsity)),
            right=True,
            order=lambda r: r.cells[sparsity].done if sparsity in r.cells else None,
        )

    return (first, *(column(sparsity) for sparsity in sparsities))


def failure_of(snapshot: Snapshot, trial: str) -> FailureView | None:
    """The failure that stopped a trial, the last one first."""
    found = [view for view in snapshot.failures if trial in view.trials]
    return max(found, key=lambda view: view.time, default=None)
