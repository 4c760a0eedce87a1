"""What a view reads from the store beside snapshots: results and the logs of one trial. Only called in threads.
What loads DuckDB is imported when it is first asked: the first screen does not wait for it.

Reads are short: the database is opened, asked and let go; logs are read once and then from where they were left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prunectl.errors import StoreError
from prunectl.monitor.snapshot import TrialView
from prunectl.store.files import read_json
from prunectl.store.journal import Record, read
from prunectl.store.paths import StorePaths
from prunectl.tui.trial_detail import Detail, detail_of

if TYPE_CHECKING:
    from prunectl.results.leaderboard import Board
    from prunectl.store.db.replica import Replica

SEEDS = """
SELECT seed, trial, accuracy, delta, flag, done FROM points
WHERE plan = $plan AND cell = $cell AND iteration = $iteration ORDER BY seed
"""


@dataclass(frozen=True)
class Published:
    """A published number beside one of ours; accuracies in percent."""

    source: str
    sparsity: float
    retrain_epochs: float | None
    n: int
    median: float
    dense: float

    @property
    def delta(self) -> float:
        """From their own dense network, in points."""
        return self.median - self.dense


@dataclass(frozen=True)
class Boards:
    """The tables of a store, with what was published about the same networks."""

    boards: tuple[Board, ...] = ()
    published: Mapping[tuple[str, str, int], Published] = field(default_factory=dict)
    """By plan, cell and iteration."""


@dataclass(frozen=True)
class SeedPoint:
    """One seed of a cell."""

    seed: int
    trial: str
    accuracy: float | None
    delta: float | None
    flag: str | None
    done: bool


class Reader:
    """Reads for the views. Raises PrunectlError as the rooms below do."""

    def __init__(self, paths: StorePaths) -> None:
        self.paths = paths

    @property
    def has_results(self) -> bool:
        """Whether there is a database to read, so that asking does not make one."""
        return self.paths.database.exists()

    def boards(self) -> Boards:
        """The leaderboards of all plans."""
        from prunectl.results.leaderboard import leaderboard

        found = leaderboard(self.paths, all_plans=True)
        return Boards(tuple(found), self._published() if found else {})

    def _published(self) -> dict[tuple[str, str, int], Published]:
        from prunectl.results.compare import neighbours

        return {
            cell: Published(
                source,
                sample.sparsity,
                sample.retrain_epochs,
                sample.n,
                sample.median,
                sample.dense,
            )
            for cell, (source, sample) in neighbours(self.paths).items()
        }

    def seeds(self, plan: str, cell: str, iteration: int) -> tuple[SeedPoint, ...]:
        """The seeds of a cell, in order."""
        from prunectl.store.db import query

        values = {"plan": plan, "cell": cell, "iteration": iteration}
        return tuple(SeedPoint(**row) for row in query.run(self.paths, SEEDS, values).dicts())

    def recipes(self) -> dict[str, str]:
        """SQL by name: those in the package, then the store's own, which replace them."""
        from prunectl.store.db.queries import queries

        try:
            return {name: query.sql for name, query in queries(self.paths).items()}
        except StoreError:  # an unreadable file of the user's must not take the view away
            return {name: query.sql for name, query in queries().items()}

    def replica(self) -> Replica:
        """A private copy of the results."""
        from prunectl.store.db.replica import Replica

        return Replica(self.paths)

    def logs(self) -> TrialLogs:
        """A reader of trials' logs."""
        return TrialLogs(self.paths)


class TrialLogs:
    """The logs of the stages of trials; used by one thread at a time."""

    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths
        self._records: dict[str, tuple[list[Record], int]] = {}
        self._specs: dict[str, dict[str, Any]] = {}

    def detail(
        self, view: TrialView, varied: tuple[str, ...] = (), replay: str | None = None
    ) -> Detail:
        """Everything that is known about a trial from its stages; `varied`: labels that the plan varies; `replay`:
        the stage that trains its dense network again, up to where it rewinds to."""
        for key in (*view.path[: view.iteration + 1], *([replay] if replay else [])):
            records, offset = self._records.get(key, ([], 0))
            more, offset = read(self._paths.stage(key).events, offset)
            self._records[key] = ([*records, *more] if more else records, offset)
            if key not in self._specs:
                self._read_spec(key)
        records_of = {key: self._records[key][0] for key in view.path if key in self._records}
        again = self._records[replay][0] if replay else ()
        return detail_of(view, records_of, self._specs, varied, again)

    def _read_spec(self, key: str) -> None:
        try:
            content = read_json(self._paths.stage(key).spec)
        except (OSError, ValueError):
            return
        except Exception:  # an unreadable file is not worth more than its absence here
            return
        if isinstance(content, dict) and isinstance(content.get("stage"), dict):
            self._specs[key] = content["stage"]
