"""What every table, view and column of results.duckdb means.

A column that holds a field of a record has that field's description; a view's column has the text of the table that it
passes on. column_docs.toml says the rest: what is computed, and what no record declares.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.resources import files

import msgspec
import tomli

from prunectl.spec.settings import DataSettings, PruneSettings
from prunectl.spec.stage import Mask, Weights
from prunectl.spec.study import PlannedStage, Study
from prunectl.spec.task import CLASSIFICATION, Metric
from prunectl.spec.trial import Trial
from prunectl.store.db.rows import EPOCH_MEASURES, MEASURES
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import Epoch, LayerCount
from prunectl.store.records.labels import Labels
from prunectl.store.records.provenance import Git, RunRecord
from prunectl.store.records.replication import Replication
from prunectl.store.records.result import Result
from prunectl.store.records.texts import LAST, THIS, described, measured

RECORDS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "plans": (Study,),
    "trials": (Trial,),
    "tasks": (Metric,),
    "runs": (RunRecord,),
    "replications": (Replication,),
    "stages": (PlannedStage, Result, PruneSettings),
    "epochs": (Epoch,),
    "layers": (LayerCount,),
    "correctness": (Result,),
    "labels": (Labels,),
    "events": (LogRecord,),
}
"""Whose fields a table's columns hold; of fields with one name the first record's."""
FIELDS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "plans.plan": (Study, "name"),
    "tasks.metric": (Metric, "name"),
    "runs.git_commit": (Git, "commit"),
    "runs.git_dirty": (Git, "dirty"),
    "replications.digest": (Replication, "plan"),
    "replications.plan": (Replication, "name"),
    "replications.stage": (Replication, "key"),
    "stages.stage": (Result, "key"),
    "stages.dataset": (DataSettings, "name"),
    "stages.parent": (Mask, "parent"),
    "stages.weights_stage": (Weights, "stage"),
    "stages.weights_step": (Weights, "step"),
    "stages.train_epochs": (Result, "retrain_epochs"),
    "stages.attempts": (Result, "attempt"),
    "layers.layer": (LayerCount, "name"),
    "labels.dataset": (DataSettings, "name"),
}
"""Columns that have another name than their field."""
MEASURED = {
    "stages": dict.fromkeys(MEASURES, LAST),
    "epochs": dict.fromkeys(EPOCH_MEASURES, THIS),
}
"""Columns that hold a metric of classification, and of which evaluation."""
AS_IN = {
    "plan_versions": ("plans",),
    "current_plans": ("plans", "plan_versions"),
    "plan_trials": ("plans", "trials"),
    "plan_selections": ("plans", "trials"),
    "paths": ("trials", "stages"),
    "tasks": ("trials",),
    "stages": ("trials",),
    "epochs": ("stages",),
    "layers": ("stages",),
    "correctness": ("stages",),
    "labels": ("correctness",),
    "rates": ("stages",),
    "schedules": ("rates",),
    "iterations_all": ("plan_versions", "trials", "paths", "stages"),
    "iterations": ("iterations_all",),
    "picks_all": ("plan_selections", "iterations_all"),
    "picks": ("picks_all",),
    "selections_all": ("picks_all",),
    "selections": ("selections_all",),
    "points_all": ("iterations_all",),
    "points": ("points_all",),
    "leaderboard_all": ("points_all",),
    "leaderboard": ("leaderboard_all",),
    "ranking_all": ("leaderboard_all",),
    "ranking": ("ranking_all",),
    "no_loss_all": ("leaderboard_all",),
    "no_loss": ("no_loss_all",),
    "directions": ("tasks",),
    "published": ("trials",),
    "store": ("runs",),
}
"""Tables and views whose columns mean the same where they have the same name."""


@dataclass(frozen=True)
class Docs:
    """The texts of column_docs.toml, by name."""

    tables: dict[str, str]
    views: dict[str, str]
    means: list[str]
    """Columns of the view `leaderboard_all` that are the mean over the seeds of what they are in `points`."""
    metrics: dict[str, str]
    """Metrics of classification that are columns, in words."""
    columns: dict[str, str]
    """A column's name means the same in every table, …"""
    particular: dict[str, str]
    """… but for these, by `TABLE.COLUMN`."""

    def column(self, table: str, column: str) -> str:
        """Return what the column means. Raises KeyError for a column without a text."""
        return self._own(table, column) or self.columns[column]

    def _own(self, table: str, column: str) -> str | None:
        """Return what the column means in this table rather than in any."""
        if found := self.particular.get(f"{table}.{column}") or self.declared(table, column):
            return found
        others = (self._own(other, column) for other in AS_IN.get(table, ()))
        found = next(filter(None, others), None)
        if table == "leaderboard_all" and column in self.means:
            return f"mean over the seeds: {found or self.columns[column]}"
        return found

    def declared(self, table: str, column: str) -> str | None:
        """Return what a record says of the column; None where it holds no field of one."""
        if (when := MEASURED.get(table, {}).get(column)) is not None:
            return self._metric(column, when)
        kind, name = FIELDS.get(f"{table}.{column}", (None, column))
        kinds = RECORDS.get(table, ()) if kind is None else (kind,)
        if kind is None:
            kinds = tuple(each for each in kinds if (each, name) not in FIELDS.values())
        text = next(filter(None, (_texts(each).get(name) for each in kinds)), None)
        # Moments are TIMESTAMPs (`rows.moment`).
        return text and text.replace("Unix seconds", "UTC")

    def _metric(self, column: str, when: str) -> str:
        quantities = {
            metric.name: (self.metrics[metric.name], f"in {metric.unit}, of classification alone")
            for metric in CLASSIFICATION.metrics
        }
        return measured(column, when, quantities)


@functools.cache
def _texts(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {field.name: field.text for field in described(kind)}


@functools.cache
def docs() -> Docs:
    """Read the texts: only where a database is created or described, for that takes some milliseconds."""
    text = (files("prunectl.store.db") / "column_docs.toml").read_text(encoding="utf-8")
    return Docs(**tomli.loads(text))
