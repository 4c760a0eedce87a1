"""Convert the store's files to rows of the database: pure functions, no connection.

Each function takes parsed JSON and returns tuples in the column order of the constant that it names. Unknown fields
are ignored and missing ones are NULL, so that a log of another version is read as far as it is understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from prunectl.spec.stage import Mask
from prunectl.spec.task import DEFAULT_TASK, TaskMetrics
from prunectl.store.db.database import Row
from prunectl.store.files import dumps

Data = Mapping[str, Any]

SPEC = (
    "stage", "network", "dataset", "task", "seed", "iteration", "replay", "parent", "weights_stage",
    "weights_step", "criterion", "scope", "granularity", "density", "steps", "spec",
)  # fmt: skip
RESULT = (
    "stage", "done", "flag", "kept", "prunable", "parameters", "kept_parameters", "macs", "macs_dense",
    "dead_layers", "score_pruned", "score_start", "score", "best_score", "validation_score", "train_score", "metrics",
    "accuracy_pruned", "accuracy_start", "accuracy", "top5", "loss", "best_accuracy", "validation_accuracy",
    "train_accuracy", "train_loss", "train_epochs", "seconds", "peak_memory", "device", "device_name", "attempts",
    "versions", "started", "ended", "bytes",
)  # fmt: skip
EPOCH = (
    "step", "lr", "train_loss", "train_accuracy", "loss", "accuracy", "top5", "validation_loss",
    "validation_accuracy", "score", "train_score", "validation_score", "metrics", "seconds", "attempt",
)  # fmt: skip
TRIAL = (
    "trial", "cell", "plan", "network", "dataset", "task", "recipe", "strategy", "schedule", "criterion", "scope",
    "granularity", "retrain", "seed",
)  # fmt: skip
TASK = ("task", "position", "metric", "unit", "higher_is_better", "digits", "per_item", "guesses")
PLAN = ("digest", "plan", "file", "question", "axes", "overrides", "created", "text")
RUN = (
    "run", "plans", "started", "argv", "cwd", "git_commit", "git_dirty", "host", "devices", "driver", "packages",
    "python", "platform", "prunectl",
)  # fmt: skip
EVENT = ("log", "seq", "attempt", "time", "type", "stage", "data")
LAYER = ("stage", "position", "layer", "total", "kept")

MALFORMED = (KeyError, TypeError, ValueError, AttributeError)
"""What these functions raise for JSON that is not what it should be."""

_UNIX = datetime(1970, 1, 1)


def moment(value: object) -> datetime | None:
    """Convert Unix seconds or ISO 8601 to UTC without a zone; anything else to None."""
    try:
        if isinstance(value, int | float):
            return _UNIX + timedelta(seconds=value)
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _row(columns: Sequence[str], data: Data, made: Data) -> Row:
    """Return the columns in order, from `made` or else the member of `data` with the column's name."""
    return tuple(made[name] if name in made else data.get(name) for name in columns)


def task_rows(task: str, measured: TaskMetrics) -> list[Row]:
    """Return the metrics of a task as `TASK`, the score first."""
    names = TASK[3:]
    return [
        (task, position, metric.name, *(getattr(metric, name) for name in names))
        for position, metric in enumerate(measured.metrics)
    ]


MEASURED = (
    "accuracy", "top5", "train_accuracy", "validation_accuracy", "best_accuracy", "accuracy_start", "accuracy_pruned",
)  # fmt: skip
"""What records hold of classification."""


def _scores(record: Data) -> dict[str, Any]:
    """Return the scores of a record, and its metrics by name."""
    found = {name: record[name] for name in MEASURED if name in record}
    scores = {name.replace("accuracy", "score"): value for name, value in found.items()}
    return {**scores, "metrics": dumps(found)}


def spec_row(key: str, spec: Data) -> Row:
    """Return a stage's description, from spec.json or a plan, as `SPEC`."""
    stage = spec.get("stage", {})
    mask = stage.get("mask")
    weights = stage.get("weights", {})
    settings: Data = mask.get("settings", {}) if mask else {}
    default = Mask("").settings
    chosen = {
        name: settings.get(name, getattr(default, name)) if mask else None
        for name in ("criterion", "scope", "granularity", "density")
    }
    density = chosen["density"]
    made = {
        **chosen,
        "stage": key,
        "network": stage.get("network", {}).get("name"),
        "dataset": stage.get("data", {}).get("name"),
        "task": stage.get("task", DEFAULT_TASK),
        "iteration": stage.get("iteration", 0),
        "replay": stage.get("replay", False),
        "parent": mask.get("parent") if mask else None,
        "weights_stage": weights.get("stage"),
        "weights_step": weights.get("step"),
        "density": 1.0 if density is None else float(density),
        "steps": sum(segment.get("steps", 0) for segment in stage.get("lr", [])),
        "spec": dumps(spec),
    }
    return _row(SPEC, stage, made)


def result_row(key: str, result: Data | None) -> Row:
    """Return the content of result.json as `RESULT`; None is a stage that is not done."""
    if result is None:
        return _row(RESULT, {}, {"stage": key, "done": False})
    made = {
        **_scores(result),
        "stage": key,
        "done": True,
        "attempts": result.get("attempt"),
        "train_epochs": result.get("retrain_epochs"),
        "versions": dumps(result.get("versions", {})),
        "started": moment(result.get("started")),
        "ended": moment(result.get("ended")),
        "bytes": sum(result.get("files", {}).values()),
    }
    return _row(RESULT, result, made)


def plan_row(digest: str, plan: Data) -> Row:
    """Return a version of a plan as `PLAN`."""
    made = {
        "digest": digest,
        "plan": plan.get("name"),
        "axes": [str(axis) for axis in plan.get("axes") or []],
        "overrides": [str(each) for each in plan.get("overrides") or []],
        "created": moment(plan.get("created")),
    }
    return _row(PLAN, plan, made)


def run_row(run_id: str, run: Data) -> Row:
    """Return a start of a scheduler as `RUN`."""
    git = run.get("git") or {}
    argv = run.get("argv")
    made = {
        "run": run_id,
        "plans": [str(digest) for digest in run.get("plans") or []],
        "started": moment(run.get("started")),
        "argv": list(map(str, argv)) if isinstance(argv, list) else [str(argv)] if argv else [],
        "git_commit": git.get("commit"),
        "git_dirty": git.get("dirty"),
        "devices": dumps(run.get("devices")),
        "packages": dumps(run.get("packages")),
    }
    return _row(RUN, run, made)


def trial_row(trial: Data) -> Row:
    """Return a trial as `TRIAL`, then its number of iterations."""
    made = {"task": trial.get("task", DEFAULT_TASK)}
    return (*_row(TRIAL, trial, made), len(trial["path"]) - 1)


def path_rows(trial: Data) -> list[Row]:
    """Return (trial, iteration, stage, target sparsity) of each iteration."""
    steps = zip(trial["path"], trial["sparsities"], strict=True)
    return [(trial["trial"], k, stage, float(aim)) for k, (stage, aim) in enumerate(steps)]


@dataclass(frozen=True)
class PlanRows:
    """All rows of one version of a plan."""

    digest: str
    created: datetime | None
    row: Row
    trials: dict[str, Row]
    paths: dict[str, list[Row]]
    stages: list[Row]
    """As `SPEC` and the steps per epoch."""

    @classmethod
    def of(cls, digest: str, plan: Data) -> PlanRows:
        """Convert a file of plans/. Raises one of `MALFORMED` where it is none."""
        row = plan_row(digest, plan)
        trials = plan["trials"]
        return cls(
            digest,
            row[PLAN.index("created")],
            row,
            {trial["trial"]: trial_row(trial) for trial in trials},
            {trial["trial"]: path_rows(trial) for trial in trials},
            [
                (*spec_row(key, stage["spec"]), stage.get("epoch_steps"))
                for key, stage in plan["stages"].items()
            ],
        )


_STAGE_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass
class LogRows:
    """Rows of event logs, by their tables' primary keys, so that what was logged later wins."""

    events: dict[tuple[str, int], Row] = field(default_factory=dict)
    epochs: dict[tuple[str, int], Row] = field(default_factory=dict)
    layers: dict[tuple[str, int], Row] = field(default_factory=dict)
    rates: dict[tuple[str, int], Row] = field(default_factory=dict)
    last_rate: dict[str, tuple[int, float]] = field(default_factory=dict)
    """(step, learning rate) read last, by stage: the same rate logged again for a later step is no new row."""

    def add(self, log: str, records: Iterable[Data]) -> None:
        """Add the records of one log, in their order."""
        is_stage = _STAGE_KEY.fullmatch(log) is not None
        for record in records:
            kind = record.get("type")
            if is_stage and kind == "epoch":
                self._add_epoch(log, record)
                continue
            if is_stage and kind == "pruned":
                for position, layer in enumerate(record.get("layers") or []):
                    self.layers[log, position] = (
                        log, position, layer.get("name"), layer.get("total"), layer.get("kept"),
                    )  # fmt: skip
            rest = {
                name: value
                for name, value in record.items()
                if name not in ("seq", "attempt", "time", "type", "layers")
            }
            self.events[log, record["seq"]] = (
                log,
                record["seq"],
                record.get("attempt"),
                moment(record.get("time")),
                kind,
                log if is_stage else record.get("key"),
                dumps(rest),
            )

    def _add_epoch(self, stage: str, record: Data) -> None:
        epoch = record.get("epoch")
        if not isinstance(epoch, int):
            return
        row = (stage, epoch, *_row(EPOCH, record, _scores(record)), moment(record.get("time")))
        self.epochs[stage, epoch] = row
        for first_step, lr in record.get("rates") or []:
            last_step, last = self.last_rate.get(stage, (-1, None))
            if lr != last or first_step <= last_step:
                self.rates[stage, first_step] = (stage, first_step, lr)
            self.last_rate[stage] = (first_step, lr)
