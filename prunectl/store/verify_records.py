"""Check the records of a store that belong to no stage, for `store verify`: plans, runs, data sets, labels, logs,
requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prunectl.errors import StoreError
from prunectl.store import files, requests
from prunectl.store.paths import StorePaths
from prunectl.store.records import dataset
from prunectl.store.records.base import read_record
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.journal import Log, digest_of
from prunectl.store.records.labels import read_labels
from prunectl.store.records.plan import read_plan
from prunectl.store.records.provenance import read_run
from prunectl.store.records.replication import read_replication, replica_of
from prunectl.store.records.scheduler_log import RunEnded, RunStarted, read_scheduler_log
from prunectl.store.records.store_format import read_format
from prunectl.store.verdict import Verdict
from prunectl.text import plural


def in_sequence(log: Log[Any]) -> bool:
    """Return whether the numbers of a log's records go up one by one from 0."""
    return [record.seq for record in log.records] == list(range(len(log.records)))


def check_records(paths: StorePaths, verdict: Verdict, indexed: tuple[int, str]) -> None:
    """Check plans, runs, data sets, labels, the heartbeat, requests, the scheduler's log, and the list of old records.

    `indexed` is how much of the scheduler's log the database had read: lines, and their digest.
    """

    def check(path: Path, read: Callable[[Path], object]) -> None:
        try:
            read(path)
        except FileNotFoundError:  # there is none, or no longer
            pass
        except StoreError as error:
            verdict.problems.append(str(error))

    for path in files.disk.glob(paths.plans, "*.json"):
        check(path, read_plan)
    verdict.problems += dataset.unreadable(paths)
    for path in files.disk.glob(paths.labels, "*.json"):
        check(path, read_labels)
    for path in files.disk.glob(paths.runs, "*.json"):
        check(path, read_run)
    for path in files.disk.glob(paths.replications, "*.json"):
        check(path, read_replication)
    check(paths.heartbeat, lambda path: read_record(path, HeartbeatRecord))
    check(paths.replica, lambda _: replica_of(paths))
    verdict.problems += requests.unreadable(paths)
    _check_format(paths, verdict)
    try:
        log = read_scheduler_log(paths.scheduler_log)
    except StoreError as error:
        verdict.problems.append(str(error))
        return
    verdict.problems += (f"{paths.scheduler_log} {problem}" for problem in log.problems.values())
    if not log.bad and not in_sequence(log):
        verdict.problems.append("records are missing from scheduler.jsonl, or stand in it twice")
    _check_marks(paths, log, verdict, indexed)


def _check_format(paths: StorePaths, verdict: Verdict) -> None:
    try:
        unsealed = read_format(paths).unsealed
    except FileNotFoundError:
        return
    except StoreError as error:
        verdict.problems.append(str(error))
        return
    if unsealed:
        verdict.notes.append(
            f"{plural(len(unsealed), 'record')} of an older version {'has' if len(unsealed) == 1 else 'have'} no "
            "checksum: `prunectl store verify --seal` adds them"
        )


def _check_marks(
    paths: StorePaths, log: Log[Any], verdict: Verdict, indexed: tuple[int, str]
) -> None:
    """Compare the scheduler's log with what the database had read of it, and say what nothing vouches for.

    Starts and ends of runs vouch for the lines before them.
    """
    marks = (each for each in log.records if isinstance(each, RunStarted | RunEnded))
    vouched = max((each.lines_before or 0 for each in marks), default=0)
    lines, digest = indexed
    if digest_of(paths.scheduler_log, lines) == digest:
        vouched = max(vouched, lines)
    else:
        verdict.problems.append(
            f"{paths.scheduler_log} is not the log that the database had read {plural(lines, 'line')} of"
        )
    if (rest := log.end.lines - vouched) > 0:
        verdict.notes.append(
            f"{paths.scheduler_log}: unsealed after line {vouched}: of {plural(rest, 'line')} there nothing says "
            "whether more stood there"
        )
