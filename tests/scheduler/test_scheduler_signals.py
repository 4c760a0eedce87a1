"""Stopping and killing: what is lost (nothing recorded) and what is left behind (no process)."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from prunectl.errors import StoreBusy
from prunectl.scheduler.signals import Signals
from prunectl.spec.key import stage_key
from prunectl.spec.stage import Stage
from prunectl.store.locks import is_held
from tests.support.records import events as read
from tests.support.scheduler_lab import Plan, Store, dense, eventually, exists, retrain

Processes = list[subprocess.Popen[str]]


def begin(
    store: Store, processes: Processes, *specs: Stage, mode: str = "slow"
) -> subprocess.Popen[str]:
    """A scheduler process whose dense stages stand still half-way; returns when they do."""
    plan = Plan()
    for spec in specs:
        plan.trial(spec, retrain(spec, "0.5"))
    store.fake(modes={stage_key(spec): mode for spec in specs})
    process = store.process(store.save(plan))
    processes.append(process)
    eventually(lambda: len(store.trace("start")) == len(specs))
    return process


def workers(store: Store) -> list[int]:
    return [line["pid"] for line in store.trace("start")]


def test_kill_9_leaves_no_process_and_the_next_run_goes_on(
    store: Store, processes: Processes
) -> None:
    specs = dense(0), dense(1)
    process = begin(store, processes, *specs)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not any(exists(pid) for pid in workers(store)), 3)
    assert not is_held(store.paths.scheduler_lock)
    store.fake()
    outcome = store.run("study-1")
    assert outcome.ok
    for spec in specs:
        events = read(store.paths.stage(stage_key(spec)).events)
        assert events[-1]["attempt"] == 2


def test_a_stopped_or_hanging_worker_dies_with_the_scheduler_too(
    store: Store, processes: Processes
) -> None:
    process = begin(store, processes, dense(), mode="hang")
    os.kill(workers(store)[0], signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not exists(workers(store)[0]), 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_checkpoints_and_ends(
    store: Store, processes: Processes, number: signal.Signals
) -> None:
    specs = dense(0), dense(1)
    process = begin(store, processes, *specs)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert err == ""
    assert "interrupted=True" in out
    assert "'interrupted': 2" in out
    assert len(store.trace("interrupted")) == 2
    assert not any(exists(pid) for pid in workers(store))
    assert store.log("run_ended")[-1]["reason"] == "stopped"
    store.fake()
    assert store.run("study-1").ok
    resumed = [
        event["step"]
        for spec in specs
        for event in read(store.paths.stage(stage_key(spec)).events)
        if event["type"] == "start" and event["attempt"] == 2
    ]
    assert all(step > 0 for step in resumed), "from their checkpoints"


def test_workers_that_ignore_the_request_are_killed_in_the_end(
    store: Store, processes: Processes
) -> None:
    process = begin(store, processes, dense(), mode="deaf")
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert "interrupted=True" in out
    assert 1.5 < time.monotonic() - started < 5
    assert not exists(workers(store)[0])


def test_twice_is_now(store: Store, processes: Processes) -> None:
    process = begin(store, processes, dense(), mode="deaf")
    process.send_signal(signal.SIGINT)
    time.sleep(0.4)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert time.monotonic() - started < 1.2
    assert not exists(workers(store)[0])


def test_a_second_scheduler_is_refused_while_the_first_lives(
    store: Store, processes: Processes
) -> None:
    begin(store, processes, dense())
    with pytest.raises(StoreBusy, match="scheduler with pid"):
        store.run("study-1")


def test_a_terminals_interrupt_does_not_reach_the_workers(
    store: Store, processes: Processes
) -> None:
    process = begin(store, processes, dense())
    (pid,) = workers(store)
    assert os.getsid(pid) == pid != os.getsid(process.pid)


def test_a_failure_inside_the_scheduler_leaves_nothing_either(store: Store) -> None:
    plan = Plan()
    plan.trial(dense())
    store.fake(modes={stage_key(dense()): "slow"})
    ticks = 0

    def break_down(tick: object) -> None:
        nonlocal ticks
        ticks += 1
        if store.trace("start") and ticks < 1000:
            ticks = 1000
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.run(store.save(plan), on_heartbeat=break_down)
    assert not any(exists(pid) for pid in workers(store))
    assert not is_held(store.paths.scheduler_lock)
    assert store.log("run_ended")[-1]["reason"] == "error"


def test_a_closing_terminal_hangs_up_twice_and_counts_once() -> None:
    with Signals() as signals:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert signals.count == 1
        signal.raise_signal(signal.SIGINT)
        assert signals.count == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def look() -> None:
        with Signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_log_of_a_worker_is_set_aside_when_it_is_long(store: Store) -> None:
    log = Path(store.paths.logs / "worker-1.log")
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (5 << 20))
    plan = Plan()
    plan.trial(dense())
    store.run(store.save(plan))
    assert log.stat().st_size == 0
    assert log.with_suffix(".log.1").stat().st_size == 5 << 20
