"""What the records of `scheduler.jsonl` add up to: trials cancelled or held, their priorities, stages that failed.

The log is the only memory between runs of the scheduler. `History` is a fold of it: feed it records in their order,
in as many pieces as they come. Records and their fields, beside those that `store.journal` describes:

    run_started   run, plans [digest …], devices [id …], pid, host
    queued        plan (digest), name, trials (count), stages (count), done (count)
    dispatched    key, device, worker, attempt (1, 2 … in this run)
    stage_done    key, seconds, accuracy, flag
    stage_interrupted  key, step
    stage_failed  key, reason (`events`), message, traceback, attempt, final (false where it will be tried again),
                  log (the worker's last lines), memory (in words)
    reopened      key (was done, and its end or mask is gone: computed again), by (the stage that needs it)
    blocked       key (the one that failed), keys [dependants …], reason
    cancelled | held | released  trials [id …]
    retried       trials [id …], keys [stage keys whose failures are forgotten …]
    priority      values {trial: priority}
    drained | undrained | leased  device, reason
    lanes         device, device_name, of [network, data set, batch, precision], lanes (how many stages of this
                  workload run side by side from now on), settled (no more will be tried), memory (bytes of each, or
                  null), reason
    worker_started | worker_ended  worker, device, pid, reason
    study_stopped plan (digest), reason
    request       request (`requests`), ok, answer
    run_ended     run, reason (finished | stopped | disk | error), trials {state: count}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from prunectl.store.journal import Record, read
from prunectl.store.paths import StorePaths


@dataclass
class History:
    """The result of the records fed so far."""

    cancelled: set[str] = field(default_factory=set)
    """Trials."""
    held: set[str] = field(default_factory=set)
    """Trials."""
    priority: dict[str, int] = field(default_factory=dict)
    """Trials whose priority is not 0; higher runs first."""
    failures: dict[str, Record] = field(default_factory=dict)
    """The last `stage_failed` record with `final` of each stage that has not been done or retried since."""
    setbacks: dict[str, Record] = field(default_factory=dict)
    """The last `stage_failed` record of stages that wait to be tried again."""
    dispatched: set[str] = field(default_factory=set)
    """Stages given to a worker with no record of their end: running, or cut off with their scheduler."""
    answered: dict[str, Record] = field(default_factory=dict)
    """`request` records by the request's id."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Plans (digests) whose last run was stopped early, and why."""
    _retried: dict[str, set[str]] = field(default_factory=dict)
    """Trials that were retried since, by such a plan."""
    settled: dict[tuple[str, ...], Record] = field(default_factory=dict)
    """The last `lanes` record by model of device and workload."""
    offset: int = 0
    """Bytes of the log that have been folded in by `catch_up`."""

    def feed(self, records: Iterable[Record]) -> None:
        """Fold in the next records."""
        for record in records:
            self._feed(record)

    def catch_up(self, paths: StorePaths) -> list[Record]:
        """Read and fold in what was appended to the log. Returns the new records."""
        records, self.offset = read(paths.scheduler_log, self.offset)
        self.feed(records)
        return records

    def is_stopped(self, plan: str, trial: str) -> bool:
        """Return whether the trial rests because its plan (digest) was stopped early."""
        return plan in self.stopped and trial not in self._retried[plan]

    def _feed(self, record: Record) -> None:
        trials = record.get("trials")
        match record["type"]:
            case "cancelled":
                self.cancelled.update(trials or ())
            case "held":
                self.held.update(trials or ())
            case "released":
                self.held.difference_update(trials or ())
            case "retried":
                self.cancelled.difference_update(trials or ())
                for retried in self._retried.values():
                    retried.update(trials or ())
                for key in record.get("keys", ()):
                    self.failures.pop(key, None)
            case "priority":
                self.priority.update(record["values"])
                self.priority = {trial: value for trial, value in self.priority.items() if value}
            case "dispatched":
                self.dispatched.add(record["key"])
                self.setbacks.pop(record["key"], None)
            case "stage_failed":
                self.dispatched.discard(record["key"])
                kept = self.failures if record.get("final") else self.setbacks
                kept[record["key"]] = record
            case "stage_done" | "stage_interrupted":
                self.dispatched.discard(record["key"])
                self.failures.pop(record["key"], None)
                self.setbacks.pop(record["key"], None)
            case "lanes" if record["settled"]:
                self.settled[record["device_name"], *map(str, record["of"])] = record
            case "queued":
                self.stopped.pop(record["plan"], None)
            case "study_stopped":
                self.stopped[record["plan"]] = record["reason"]
                self._retried[record["plan"]] = set()
            case "request":
                self.answered[record["request"]["id"]] = record
            case "run_started":
                self.dispatched.clear()
                self.setbacks.clear()
