"""The stages at work."""

from __future__ import annotations

from functools import lru_cache

from prunectl.monitor.snapshot import RunningView
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.rows.study import IDENTIFIER, Distinctions, iteration_text, method, place


def trouble(view: RunningView) -> str:
    """Say what is going wrong with a stage: a loss that is not a number, or a score that is half as good."""
    # An epoch's loss is None where it is not finite.
    if view.epoch is not None and None in (view.epoch.loss, view.epoch.train_loss):
        return "diverged"
    known, best = _known(view), _best(view)
    if len(known) < 2 or best is None:
        return ""
    high = view.metric.higher_is_better
    return "collapsing" if (known[-1] < best / 2 if high else known[-1] > best * 2) else ""


def _known(view: RunningView) -> list[float]:
    return [value for value in view.scores if value is not None]


def phase(view: RunningView) -> str:
    """Return what the stage is to its trial."""
    return "replay" if view.replay else iteration_text(view.iteration, view.iterations)


def _share(view: RunningView) -> float:
    return t.share(view.step, view.steps)


def _trial(view: RunningView) -> Cell:
    if not view.trials:
        return Cell(view.key[:IDENTIFIER], "dim")
    more = f" +{len(view.trials) - 1}" if len(view.trials) > 1 else ""
    return Cell(view.trials[0][:IDENTIFIER] + more)


def _last(view: RunningView) -> float | None:
    return view.scores[-1] if view.scores else None


def _best(view: RunningView) -> float | None:
    return max(_known(view), key=lambda score: view.metric.sign * score, default=None)


def _score(view: RunningView, value: float | None) -> str:
    return t.number(value, view.metric.digits)


@lru_cache(maxsize=1)
def running_columns(study: Distinctions) -> tuple[Column[RunningView], ...]:
    """Return the columns, with one for network, data set and recipe where those vary."""
    places: Column[RunningView] = Column(
        "place", "NETWORK", 9 * len(study.places), lambda v: Cell(place(v.labels, study)), rank=2
    )
    return (
        Column("glyph", "", 1, lambda v: Cell("!", "bad") if trouble(v) else Cell("▶", "accent")),
        Column("trial", "TRIAL", 12, _trial),
        *([places] if study.places else []),
        Column("method", "METHOD", 13, lambda v: Cell(method(v.labels, study)), flex=True),
        Column("sparsity", "SPARS", 6, lambda v: Cell(t.sparsity(v.sparsity)), right=True,
               order=lambda v: float(v.sparsity)),
        Column("seed", "SEED", study.seed_width, lambda v: Cell(v.labels.get("seed", t.DASH)), right=True),
        Column("phase", "PHASE", 8, lambda v: Cell(phase(v)), rank=6, order=lambda v: v.iteration),
        Column("progress", "PROGRESS", 10, lambda v: Cell(t.bar(_share(v), 10), "accent"), order=_share),
        Column("steps", "STEP", 11, lambda v: Cell(f"{t.short(v.step)}/{t.short(v.steps)}"), right=True,
               rank=4, order=lambda v: v.step),
        Column("curve", "TEST", 10, lambda v: Cell(t.spark(v.scores, 10), "good"), rank=3,
               order=lambda v: len(v.scores)),
        Column("last", "LAST", 6, lambda v: Cell(_score(v, _last(v)), "bad" if trouble(v) else ""), right=True,
               order=_last),
        Column("best", "BEST", 6, lambda v: Cell(_score(v, _best(v))), right=True, rank=7, order=_best),
        Column("loss", "LOSS", 7, lambda v: Cell(t.number(v.loss, 4), "bad" if trouble(v) == "diverged" else ""),
               right=True, rank=8, order=lambda v: t.finite(v.loss)),
        Column("eta", "ETA", 6, lambda v: Cell(t.duration(v.eta)), right=True, order=lambda v: v.eta),
        Column("device", "DEVICE", 7, lambda v: Cell(v.device or t.DASH), rank=5),
    )  # fmt: skip
