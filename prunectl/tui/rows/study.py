"""What the trials of a snapshot have in common, and what their methods are called by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from prunectl.monitor.snapshot import TrialView
from prunectl.tui import text as t
from prunectl.tui.columns import Column

IDENTIFIER = 8
"""Digits of a trial's id that tables show."""

T = TypeVar("T")
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


def fitted_columns(columns: Iterable[Column[T]], study: Study) -> tuple[Column[T], ...]:
    """The columns with room for what varies, and without those that would be empty."""
    return tuple(_fitted(columns, study))


def _fitted(columns: Iterable[Column[T]], study: Study) -> Iterator[Column[T]]:
    for column in columns:
        if column.name == "place":
            if study.places:
                yield replace(column, width=9 * len(study.places), rank=2)
        elif column.name == "plan":
            if study.plans:
                yield replace(column, width=10, rank=3)
        else:
            yield column
