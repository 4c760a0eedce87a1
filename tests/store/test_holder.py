"""A scheduler that does not answer is named: which process, where, since when, and what to do."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from prunectl.store import requests
from prunectl.store.holder import lock_note
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import write_record
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.journal import Journal
from prunectl.store.records.requests import Drain
from prunectl.store.records.scheduler_log import RunStarted


@pytest.fixture
def paths(tmp_path: Path) -> StorePaths:
    return StorePaths(tmp_path)


@contextmanager
def holding(paths: StorePaths, pid: int, host: str, *, begun: bool = True) -> Iterator[None]:
    """A scheduler that is silent since it began its run, or before; its lock is this process's."""
    lock = Lock(paths.scheduler_lock)
    lock.acquire(lock_note(pid, host))
    with lock, closing(Journal(paths.scheduler_log)) as log:
        if begun:
            log.append(RunStarted(run="run-1", pid=pid, host=host))
            write_record(paths.heartbeat, HeartbeatRecord(run="run-1", time=time.time() - 184))
        yield


def unanswered(paths: StorePaths) -> str:
    answer = requests.request(paths, Drain(device="cpu"), timeout=0.1)
    assert (answer.ok, answer.by) == (False, "nobody")
    assert not requests.pending(paths), "taken back"
    return answer.text


def test_on_another_host_it_is_looked_for_there(paths: StorePaths) -> None:
    with holding(paths, 4242, "elsewhere"):
        said = unanswered(paths)
    assert said.startswith("the scheduler with pid 4242 on elsewhere does not answer")
    assert ", 3m04 ago" in said
    assert "look for the process on elsewhere: `kill -CONT 4242` there" in said


def test_on_this_host_its_process_is_known_by_the_open_lock(paths: StorePaths) -> None:
    with holding(paths, os.getpid(), socket.gethostname()):
        assert f"its process is there: if it hangs, `kill -9 {os.getpid()}`" in unanswered(paths)
    with holding(paths, os.getppid(), socket.gethostname()):
        assert "look for the process on" in unanswered(paths), "a pid that has not the lock"


def test_a_scheduler_that_was_killed_is_not_taken_for_the_next(paths: StorePaths) -> None:
    """The log's last run has no end, and the lock is somebody else's."""
    with holding(paths, 4242, "elsewhere"):
        pass
    with holding(paths, 5151, "elsewhere", begun=False):
        said = unanswered(paths)
    assert "4242" not in said
    assert said.startswith("the scheduler with pid 5151 on elsewhere holds the store")
