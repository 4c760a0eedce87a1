"""What a view reads from the store beside snapshots: results and the logs of one trial. Called only in threads.

Reads are short: the database is opened, asked and closed; logs are read once and then from the last offset. What loads
DuckDB is imported when it is first used, since the first screen does not need it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prunectl.errors import StoreError
from prunectl.monitor.snapshot import TrialView
from prunectl.results.metrics import task_metrics
from prunectl.spec.seeds import Seeds
from prunectl.spec.stage import Stage
from prunectl.spec.task import KNOWN, TaskMetrics
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import read_events
from prunectl.store.records.journal import START, Position
from prunectl.store.records.stage import read_spec
from prunectl.tui.trial_detail import Detail, detail_of

if TYPE_CHECKING:
    from prunectl.results.leaderboard import Board
    from prunectl.results.plan_claims import PlanClaim
    from prunectl.results.samples import Sample
    from prunectl.store.db.replica import Replica

SEEDS = """
SELECT seed, order_seed, augment_seed, score, flag, done, picked, trial FROM points_all
WHERE plan = $plan AND version = $version AND cell = $cell AND iteration = $iteration
ORDER BY seed, order_seed, augment_seed
"""

CellKey = tuple[str, str, int]
"""Plan, cell and iteration."""
SeedsKey = tuple[str, int, str, int]
"""Plan, version, cell and iteration."""


@dataclass(frozen=True)
class Boards:
    """The tables of a store, with what was published about the same networks."""

    boards: tuple[Board, ...] = ()
    published: Mapping[CellKey, tuple[str, Sample]] = field(default_factory=dict)
    """The publication and its number beside one of ours."""
    claims: tuple[PlanClaim, ...] = ()
    """What plans claim, judged."""

    def claims_of(self, board: Board) -> list[PlanClaim]:
        """Return the claims of a board's plan: of its current version, which alone they are judged for."""
        return [each for each in self.claims if board.current and each.plan == board.plan]


@dataclass(frozen=True)
class SeedPoint:
    """What the seeds of one trial came to in a cell."""

    seeds: Seeds
    score: float | None
    flag: str | None
    done: bool
    picked: str | None = None
    """The option of a sweep that validation picks, …"""
    trial: str | None = None
    """… and its trial; else the seed's own."""


class Reader:
    """Reads for the views. Raises PrunectlError as the modules that it calls do."""

    def __init__(self, paths: StorePaths) -> None:
        self.paths = paths

    @property
    def has_results(self) -> bool:
        """Whether there is a database to read: opening it would create one."""
        return self.paths.database.exists()

    def boards(self) -> Boards:
        """Read the leaderboards of every version of all plans, and judge the claims of the current ones."""
        import scipy.special  # noqa: F401  # what a cell says of its ties needs it; here nobody waits for it

        from prunectl.results.compare import neighbours
        from prunectl.results.leaderboard import leaderboard
        from prunectl.results.plan_claims import plan_claims

        found = leaderboard(self.paths, all_plans=True, every_version=True)
        if not found:
            return Boards()
        return Boards(tuple(found), neighbours(self.paths), tuple(plan_claims(self.paths)))

    def seeds(self, cell: SeedsKey) -> tuple[SeedPoint, ...]:
        """Read the seeds of a cell, in order."""
        from prunectl.store.db import query

        values = dict(zip(("plan", "version", "cell", "iteration"), cell, strict=True))
        found = query.run(self.paths, SEEDS, values).rows
        return tuple(SeedPoint(Seeds(*row[:3]), *row[3:]) for row in found)

    def queries(self) -> dict[str, str]:
        """Read SQL by name: the package's queries, then the store's own, which replace them."""
        from prunectl.store.db.queries import queries

        try:
            found = queries(self.paths)
        except StoreError:  # one unreadable file of the user's must not take the others away
            found = queries()
        return {name: query.sql for name, query in found.items()}

    def replica(self) -> Replica:
        """Make a private copy of the results."""
        from prunectl.store.db.replica import Replica

        return Replica(self.paths)

    def logs(self) -> TrialLogs:
        """Return a reader of trials' logs."""
        return TrialLogs(self.paths)


class TrialLogs:
    """The logs of the stages of trials; used by one thread at a time."""

    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths
        self._records: dict[str, tuple[list[LogRecord], Position]] = {}
        self._stages: dict[str, Stage] = {}
        self._tasks: Mapping[str, TaskMetrics] = KNOWN

    def detail(
        self, view: TrialView, varied: tuple[str, ...] = (), replay: str | None = None
    ) -> Detail:
        """Read what is known about a trial from its stages.

        Args:
            view: the trial.
            varied: labels that the plan varies.
            replay: key of the stage that trains its dense network again, up to where it rewinds to.
        """
        for key in (*view.trial.path[: view.iteration + 1], *([replay] if replay else [])):
            records, position = self._records.get(key, ([], START))
            more = read_events(self._paths.stage(key).events, position)
            self._records[key] = [*records, *more.records] if more.records else records, more.end
            if key not in self._stages:
                self._read_stage(key)
        records_of = {key: self._records[key][0] for key in view.trial.path if key in self._records}
        again = self._records[replay][0] if replay else ()
        self._read_task(view.trial.task)
        return detail_of(view, records_of, self._stages, varied, again, self._tasks)

    def _read_task(self, task: str) -> None:
        """Read what the task measures, unless that is known: most screens need no database for it."""
        if task not in self._tasks and self._paths.database.exists():
            self._tasks = task_metrics(self._paths, {task})

    def _read_stage(self, key: str) -> None:
        # A file that is absent or unreadable only leaves its settings out.
        with contextlib.suppress(OSError, StoreError):
            self._stages[key] = read_spec(self._paths.stage(key)).stage
