"""What the trials of a snapshot have in common, and what their methods are called by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prunectl.monitor.snapshot import TrialView
from prunectl.tui import text as t

IDENTIFIER = 8
"""Digits of a trial's id that tables show."""
METHOD_LABELS = ("criterion", "scope", "granularity", "schedule", "retrain")
PLACE_LABELS = ("network", "dataset", "recipe")

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Distinctions:
    """What the trials of a snapshot have in common, so that tables name only what differs."""

    varied: tuple[str, ...] = ()
    """Labels beside the strategy that tell methods apart, in their order."""
    places: tuple[str, ...] = ()
    """Of network, dataset and recipe, those that differ."""
    plans: bool = False
    """Whether there are trials of several plans."""
    seed_width: int = 4
    """Characters of a column of seeds: ``0/1/0`` takes more than ``0`` does."""


def study_of(trials: Iterable[TrialView]) -> Distinctions:
    """Return which labels vary. A retraining length that follows from the strategy tells nothing new."""
    every = [view.trial for view in trials]
    cells = {trial.cell: trial for trial in every}.values()
    values: dict[str, set[str]] = defaultdict(set)
    lengths: dict[str, set[str]] = defaultdict(set)
    for trial in cells:
        for name in (*METHOD_LABELS, *PLACE_LABELS):
            values[name].add(trial.labels.get(name, ""))
        lengths[trial.labels.get("strategy", "")].add(trial.labels.get("retrain", ""))
    if all(len(known) == 1 for known in lengths.values()):
        values["retrain"].clear()
    varied = tuple(name for name in METHOD_LABELS if len(values[name]) > 1)
    places = tuple(name for name in PLACE_LABELS if len(values[name]) > 1)
    several_plans = len({trial.plan for trial in cells}) > 1
    apart = (each for each in every if (each.order_seed, each.augment_seed) != (None, None))
    width = max((len(str(trial.seeds)) for trial in apart), default=0)
    return Distinctions(varied, places, several_plans, max(Distinctions.seed_width, width))


def method(labels: Labels, study: Distinctions) -> str:
    """Return the strategy and whatever else tells methods apart."""
    return " ".join([labels.get("strategy") or t.DASH, *(labels.get(n, "") for n in study.varied)])


def iteration_text(iteration: int, last: int) -> str:
    """Name an iteration of the `last` ones: ``dense``, ``it 2/5``."""
    return f"it {iteration}/{last}" if iteration else "dense"


def place(labels: Labels, study: Distinctions) -> str:
    """Return network, data set and recipe as far as they differ."""
    return " ".join(labels.get(name, "") for name in study.places)
