"""What every executor must do, as tests: a class for each executor inherits them and says how to make one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import pytest

from prunectl.scheduler.devices.base import Usage
from prunectl.scheduler.executors.base import Executor, WorkerProcess
from prunectl.store.locks import is_held
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record
from prunectl.store.records.messages import (
    AnyMessage,
    Beat,
    CancelStage,
    Ready,
    RunStage,
    StageDone,
    StageFailed,
    StageInterrupted,
    StageStarted,
    StopWorker,
    WorkerEnded,
)
from prunectl.store.records.result import Result

Heard = tuple[WorkerProcess, AnyMessage]
M = TypeVar("M")


class Lab(Protocol):
    """Machines that executors may use, with a store."""

    paths: StorePaths

    def executor(self) -> Executor:
        """Return an executor for another scheduler on the same two devices."""

    def stage(self, seed: int, what: str = "normal") -> str:
        """Describe a stage in the store; returns its key. `what` becomes of it: `normal`, `crash`, `exception`, or
        `slow`, which does not end by itself for some time."""

    def stillborn(self) -> None:
        """Let workers end before they are ready."""

    def inside(self) -> AbstractContextManager[Any]:
        """Let the code of a block see the store as the schedulers do."""


class ExecutorContract:
    """The tests. A subclass has the fixture `lab`."""

    @pytest.fixture
    def executor(self, lab: Lab) -> Any:
        with lab.inside():
            made = lab.executor()
            yield made
            made.close()

    def hear(
        self, executor: Executor, enough: Callable[[list[Heard]], Any], seconds: float = 20.0
    ) -> list[Heard]:
        """Listen until it is enough."""
        heard: list[Heard] = []
        deadline = executor.clock.monotonic() + seconds
        while not enough(heard):
            assert executor.clock.monotonic() < deadline, f"heard only {heard}"
            heard += executor.wait(0.2)
        return heard

    def until(self, executor: Executor, kind: type[M]) -> tuple[M, list[Heard]]:
        """Listen until a message of the type comes. Returns it, and all that was heard."""
        heard = self.hear(executor, lambda heard: any(isinstance(m, kind) for _, m in heard))
        return next(message for _, message in heard if isinstance(message, kind)), heard

    def launch(self, executor: Executor, number: int = 1) -> WorkerProcess:
        """Start a worker on the first device, and wait until it is ready."""
        worker = executor.launch(number, executor.devices[0])
        self.until(executor, Ready)
        return worker

    # workers

    def test_the_first_that_a_worker_says_is_that_it_is_ready(self, executor: Executor) -> None:
        worker = executor.launch(3, executor.devices[0])
        assert worker.number == 3
        _, heard = self.until(executor, Ready)
        assert heard[0][0] is worker
        assert isinstance(heard[0][1], Ready)

    def test_a_stage_is_started_and_done_with_its_result_on_the_disk(
        self, lab: Lab, executor: Executor
    ) -> None:
        key, worker = lab.stage(0), self.launch(executor)
        worker.send(RunStage(key, (), 5))
        done, heard = self.until(executor, StageDone)
        assert (done.key, done.attempt) == (key, 5)
        assert read_record(lab.paths.stage(key).result, Result).key == key
        started = [m for _, m in heard if isinstance(m, StageStarted)]
        assert [(m.key, m.attempt) for m in started] == [(key, 5)]
        order = [type(m) for _, m in heard if not isinstance(m, Beat)]
        assert order == [StageStarted, StageDone]

    def test_beats_tell_of_the_attempt_that_runs(self, lab: Lab, executor: Executor) -> None:
        key, worker = lab.stage(0, "slow"), self.launch(executor)
        worker.send(RunStage(key, (), 2))
        heard = self.hear(
            executor, lambda heard: any(isinstance(m, Beat) and m.running for _, m in heard)
        )
        beat = next(m for _, m in heard if isinstance(m, Beat) and m.running)
        assert beat.running[key].attempt == 2

    def test_a_stage_that_is_done_already_is_done_at_once(
        self, lab: Lab, executor: Executor
    ) -> None:
        key, worker = lab.stage(0), self.launch(executor)
        worker.send(RunStage(key, (), 1))
        self.until(executor, StageDone)
        before = lab.paths.stage(key).result
        worker.send(RunStage(key, (), 2))
        done, _ = self.until(executor, StageDone)
        assert done.attempt == 2
        assert read_record(before, Result).attempt < 2, "and not computed again"

    def test_a_stage_that_is_cancelled_is_given_back(self, lab: Lab, executor: Executor) -> None:
        key, worker = lab.stage(0, "slow"), self.launch(executor)
        worker.send(RunStage(key, (), 1))
        self.until(executor, StageStarted)
        worker.send(CancelStage(key))
        left, _ = self.until(executor, StageInterrupted)
        assert (left.key, left.attempt) == (key, 1)
        assert not is_held(lab.paths.stage(key).lock)
        other = lab.stage(1)
        worker.send(RunStage(other, (), 1))
        assert self.until(executor, StageDone)[0].key == other, "the worker lives on"

    def test_a_stage_that_fails_is_told_and_the_worker_lives(
        self, lab: Lab, executor: Executor
    ) -> None:
        key, worker = lab.stage(0, "exception"), self.launch(executor)
        worker.send(RunStage(key, (), 4))
        failed, _ = self.until(executor, StageFailed)
        assert (failed.key, failed.attempt, failed.reason) == (key, 4, "exception")
        assert failed.message
        other = lab.stage(1)
        worker.send(RunStage(other, (), 1))
        assert self.until(executor, StageDone)[0].key == other

    def test_messages_tell_who_says_them(self, lab: Lab, executor: Executor) -> None:
        first, second = self.launch(executor, 1), self.launch(executor, 2)
        keys = {first: lab.stage(1), second: lab.stage(2)}
        for worker, key in keys.items():
            worker.send(RunStage(key, (), 1))
        heard = self.hear(
            executor, lambda heard: sum(isinstance(m, StageDone) for _, m in heard) == 2
        )
        assert {w: m.key for w, m in heard if isinstance(m, StageDone)} == keys

    # ends

    def test_an_idle_worker_ends_with_its_input(self, executor: Executor) -> None:
        worker = self.launch(executor)
        worker.end_input()
        ended, heard = self.until(executor, WorkerEnded)
        assert heard[-1] == (worker, ended)
        assert ended.code == 0
        assert ended.certain

    def test_a_worker_that_is_to_stop_gives_its_stages_back_first(
        self, lab: Lab, executor: Executor
    ) -> None:
        key, worker = lab.stage(0, "slow"), self.launch(executor)
        worker.send(RunStage(key, (), 1))
        self.until(executor, StageStarted)
        worker.send(StopWorker())
        _, heard = self.until(executor, WorkerEnded)
        assert [type(m) for _, m in heard if not isinstance(m, Beat)] == [
            StageInterrupted,
            WorkerEnded,
        ]

    def test_a_killed_worker_is_told_once_and_says_nothing_after(
        self, lab: Lab, executor: Executor
    ) -> None:
        key, worker = lab.stage(0, "slow"), self.launch(executor)
        worker.send(RunStage(key, (), 1))
        self.until(executor, StageStarted)
        worker.kill()
        ended, heard = self.until(executor, WorkerEnded)
        assert heard[-1] == (worker, ended)
        assert ended.code != 0
        assert ended.certain
        assert not is_held(lab.paths.stage(key).lock), "an end is told when it is one"
        assert executor.wait(0.5) == []
        worker.send(RunStage(key, (), 2))  # to nobody
        assert executor.wait(0.2) == []

    def test_a_worker_that_crashes_is_told_in_words(self, lab: Lab, executor: Executor) -> None:
        key, worker = lab.stage(0, "crash"), self.launch(executor)
        worker.send(RunStage(key, (), 1))
        ended, _ = self.until(executor, WorkerEnded)
        assert "SIGSEGV" in ended.how
        assert isinstance(worker.log_tail(), str)

    def test_a_worker_that_never_gets_ready_has_an_end_and_says_why(
        self, lab: Lab, executor: Executor
    ) -> None:
        lab.stillborn()
        worker = executor.launch(1, executor.devices[0])
        ended, heard = self.until(executor, WorkerEnded)
        assert heard == [(worker, ended)]
        assert "ImportError" in ended.log

    # time and devices

    def test_waiting_for_nothing_takes_the_time_that_was_given(self, executor: Executor) -> None:
        before, unix = executor.clock.monotonic(), executor.clock.time()
        assert executor.wait(0.1) == []
        assert 0.09 <= executor.clock.monotonic() - before < 5
        assert executor.clock.time() > unix
        at = executor.clock.monotonic()
        assert executor.wait(0.0) == []
        assert executor.clock.monotonic() - at < 5

    def test_a_device_has_one_scheduler_at_a_time(self, lab: Lab, executor: Executor) -> None:
        other = lab.executor()
        first, second = executor.devices
        assert executor.lease(first) is None
        assert executor.lease(first) is None, "it keeps what it has"
        assert other.lease(first), "somebody is named"
        assert other.lease(second) is None
        executor.release(first)
        assert other.lease(first) is None
        assert executor.lease(first)
        other.close()
        assert executor.lease(first) is None, "the end of an executor leaves its devices"

    def test_devices_are_told_apart_and_say_how_busy_they_are(self, executor: Executor) -> None:
        assert len({device.id for device in executor.devices}) == 2
        assert all(isinstance(executor.usage(device), Usage) for device in executor.devices)

    def test_the_end_leaves_nobody_behind(self, lab: Lab) -> None:
        with lab.inside():
            executor = lab.executor()
            key, worker = lab.stage(0, "slow"), self.launch(executor)
            worker.send(RunStage(key, (), 1))
            self.until(executor, StageStarted)
            executor.close()
            assert not is_held(lab.paths.stage(key).lock)
            other = lab.executor()
            again = self.launch(other)
            again.send(RunStage(key, (), 2))
            assert self.until(other, StageStarted)[0].attempt == 2
            other.close()
