"""Select trials of a store: by id, by conditions on their labels, or by SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prunectl.errors import ControlError, QueryError
from prunectl.spec.trial import LABELS, SEEDS, Trial, without_digits
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import current_studies, match_id
from prunectl.store.records.scheduler_log import History


def find_trials(
    paths: StorePaths, selectors: Sequence[str], where: str | None = None
) -> list[Trial]:
    """List the trials that any of the selectors names, and that satisfy `where`, in the order of their plans.

    Args:
        selectors: each an id, the beginning of one, `all`, or conditions joined by commas:
            `strategy=lr-rewind,seed=0`. Conditions are on the labels of trials (digits after @ may be left out),
            `plan`, `cell`, `seed`, `order_seed`, `augment_seed`, and `state` (failed, cancelled or held).
        where: an SQL condition on the columns of `trials`, or on those of `iterations`: then a trial is meant that
            has such an iteration. Without selectors it selects from all trials.

    Raises ControlError for a selector that names no trial, or that begins the ids of several, and for a condition
    that the database refuses or that is true of none.
    """
    studies = current_studies(paths)
    trials = {trial.id: trial for study in studies for trial in study.trials}
    history = History()
    history.catch_up(paths)
    chosen: set[str] = set()
    for selector in selectors if where is None else (selectors or ["all"]):
        chosen |= _select(paths, selector, trials, history)
    if where is not None:
        chosen &= _where(paths, where)
        if not chosen:
            raise ControlError(f"--where {where!r} is true of no trial")
    return [trial for name, trial in trials.items() if name in chosen]


def _select(
    paths: StorePaths, selector: str, trials: Mapping[str, Trial], history: History
) -> set[str]:
    if selector == "all":
        found = set(trials)
    elif "=" in selector:
        conditions = [part.partition("=")[::2] for part in selector.split(",")]
        tests = [_condition(name.strip(), value.strip(), history) for name, value in conditions]
        found = {name for name, trial in trials.items() if all(test(trial) for test in tests)}
    else:
        found = {match_id(paths, trials, selector)}
    if not found:
        raise ControlError(f"no trial matches {selector!r}")
    return found


def _condition(name: str, value: str, history: History) -> Callable[[Trial], bool]:
    if name == "state":
        states: dict[str, Callable[[Trial], bool]] = {
            "failed": lambda trial: any(key in history.failures for key in trial.path),
            "cancelled": lambda trial: trial.id in history.cancelled,
            "held": lambda trial: trial.id in history.held,
        }
        if value not in states:
            raise ControlError(f"state={value}: trials are chosen by {', '.join(states)}")
        return states[value]
    allowed = ("plan", *SEEDS, "cell", *LABELS)
    if name not in allowed:
        raise ControlError(f"no label {name!r}; there are {', '.join(allowed)} and state")
    return lambda trial: value in (label := trial.label(name), without_digits(label))


def _where(paths: StorePaths, condition: str) -> set[str]:
    from prunectl.store.db import query  # DuckDB takes 0.1 s to import: only where it is asked

    query.bring_up_to_date(paths, stages=())
    refused: list[QueryError] = []
    for table in ("trials", "iterations"):
        try:
            sql = f"SELECT DISTINCT trial FROM {table} WHERE (\n{condition}\n)"
            return {row[0] for row in query.run(paths, sql).rows}
        except QueryError as error:
            refused.append(error)
    # Where `trials` lacks the column, what is wrong with `iterations` tells more.
    reason = refused[1 if "not found" in str(refused[0]) else 0]
    raise ControlError(f"--where {condition!r}: {reason}") from reason
