"""Name the scheduler that holds a store, and say what to do where it is silent.

A scheduler writes a heartbeat every second and looks for requests four times a second. One that does neither is stopped
(SIGSTOP, Ctrl-Z), hangs, or is cut off from a shared disk: only a person can end it, who must know which process it is.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records.heartbeat import read_heartbeat
from prunectl.store.records.scheduler_log import History, RunStarted
from prunectl.text import duration

if TYPE_CHECKING:  # takes 20 ms to import
    import psutil


PATIENCE = 15.0
"""Seconds without an answer or a heartbeat."""
STAGE_SECONDS = 5e-4
"""More for each stage of a plan that is handed over: a scheduler queues 100,000 in 10 s of CPU, and does nothing else
meanwhile."""

SUSPENDED_SECONDS = 2.0
"""The same where the process is stopped; heartbeats are a second apart."""


def lock_note(pid: int | None, host: str) -> str:
    """Return what a scheduler writes into the store's lock."""
    return f"the scheduler with pid {pid} on {host}"


def holder_name(paths: StorePaths) -> str:
    """Return who holds the store's lock, in the words of its note: a scheduler, or a command for a moment."""
    try:
        note = files.disk.read(paths.scheduler_lock).decode(errors="replace").strip()
    except OSError:
        note = ""
    return note or "the scheduler"


def patience_with(stages: int) -> float:
    """Return how long a scheduler may be silent that is handed plans of so many stages."""
    return PATIENCE + STAGE_SECONDS * stages


def is_silent(
    paths: StorePaths, history: History, seconds: float, patience: float = PATIENCE
) -> bool:
    """Return whether a holder that gave no sign for so many seconds needs somebody to look after it.

    It does after `patience`, and sooner where its process is seen to be stopped.
    """
    return seconds > patience or (seconds > SUSPENDED_SECONDS and _is_suspended(paths, history))


def _is_suspended(paths: StorePaths, history: History) -> bool:
    """Return whether the process that holds the store is one of this host that a signal has stopped."""
    import psutil

    process = _process(paths, _run(paths, history))
    try:
        return process is not None and process.status() in (
            psutil.STATUS_STOPPED,
            psutil.STATUS_TRACING_STOP,
        )
    except psutil.Error:  # it has just ended
        return False


def describe_silence(paths: StorePaths, history: History) -> str:
    """Say who holds the store, since when it is silent, and how to have it go on or end."""
    who, run = holder_name(paths), _run(paths, history)
    if run is None:  # it has begun no run yet, or is no scheduler
        return f"{who} holds the store and does not answer"
    beat = read_heartbeat(paths)
    last = beat.time if beat.run == run.run and beat.time is not None else run.time
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last))
    since = f"its last heartbeat was at {clock}, {duration(time.time() - last)} ago"
    if _is_suspended(paths, history):
        what = f"its process is stopped: `kill -CONT {run.pid}` lets it go on, `kill -9 {run.pid}` ends it"
    elif _process(paths, run) is not None:
        what = f"its process is there: if it hangs, `kill -9 {run.pid}` ends it"
    else:
        what = (
            f"look for the process on {run.host}: `kill -CONT {run.pid}` there lets a stopped one go on, "
            f"`kill -9 {run.pid}` ends one that hangs"
        )
    return f"{who} does not answer; {since}; {what}, and nothing recorded is lost"


def _run(paths: StorePaths, history: History) -> RunStarted | None:
    """Return the run of the lock's holder; None where the log has none of it."""
    run = history.run
    # A scheduler that was killed leaves a run without an end: the next holder is known by the lock alone at first.
    holds = run is not None and holder_name(paths) == lock_note(run.pid, run.host)
    return run if holds else None


def _process(paths: StorePaths, run: RunStarted | None) -> psutil.Process | None:
    """Return the run's process; None where it is of another host, or cannot be shown to hold the store.

    Its pid shows nothing, as containers with one host name have pids of their own; its having the lock open does.
    """
    import psutil

    if run is None or run.pid is None or run.host != socket.gethostname():
        return None
    try:
        process = psutil.Process(run.pid)
        opened = {file.path for file in process.open_files()}
    except psutil.Error:  # another user's, or gone
        return None
    return process if str(paths.scheduler_lock.resolve()) in opened else None
