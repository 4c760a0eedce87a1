"""A run that trains nothing: the files of a synthetic store change as those of a real one do."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from prunectl.store.locks import Lock
from prunectl.store.records.base import write_record
from prunectl.store.records.events import Epoch
from prunectl.store.records.heartbeat import (
    DeviceBeat,
    EtaBeat,
    HeartbeatRecord,
    QueueBeat,
    RunningBeat,
)
from prunectl.store.records.journal import Journal
from prunectl.store.records.scheduler_log import Dispatched, RunStarted, StageDone
from tests.support.fake_store import START, FakeStore

FINISH_EVERY = 4
"""Changes of the store, after which a stage is done and the next one starts."""
DEVICES = 8
NEXT = 100
TRIALS = 200
"""What a heartbeat lists of the queue and of the trials' ends."""


class FakeRun:
    """Holds the locks of the scheduler and of some stages that are not done, and `hertz` times a second writes a
    heartbeat and an epoch of each; every fourth time one of them is done and another one starts."""

    def __init__(self, maker: FakeStore, running: int, hertz: float) -> None:
        self.maker = maker
        self._interval = 1 / hertz
        self._frame = 0
        todo = dict.fromkeys(key for path in maker.trials.values() for key in path)
        self._todo = [key for key in todo if not maker.paths.stage(key).result.exists()]
        self._running: dict[str, tuple[Lock, Journal]] = {}
        self._wanted = running
        self._lock = Lock(maker.paths.scheduler_lock)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go, name="fake run")
        self._plans = tuple(path.stem for path in maker.paths.plans.glob("*.json"))

    def __enter__(self) -> FakeRun:
        self._lock.acquire()
        self._log = Journal(self.maker.paths.scheduler_log)
        devices = ("cuda:0",)
        self._log.append(
            RunStarted(run="r1", plans=self._plans, devices=devices, pid=os.getpid(), host="h")
        )
        for _ in range(min(self._wanted, len(self._todo))):
            self._start()
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        for lock, journal in self._running.values():
            journal.close()
            lock.release()
        self._running.clear()
        self._log.close()
        self._lock.release()

    @property
    def running(self) -> tuple[str, ...]:
        """The stages that it holds."""
        return tuple(self._running)

    def _go(self) -> None:
        while not self._ending.wait(self._interval):
            self._frame += 1
            for number, (_, journal) in enumerate(self._running.values()):
                journal.append(_epoch(self._frame, number, self.maker.epoch_steps))
            if self._frame % FINISH_EVERY == 0 and self._todo:
                self._finish(next(iter(self._running)))
                self._start()
            self._beat()

    def _start(self) -> None:
        key = self._todo.pop(0)
        files = self.maker.paths.stage(key)
        self.maker.log(key, range(1, 2))
        lock = Lock(files.lock)
        lock.acquire()
        self._running[key] = lock, Journal(files.events)
        self._log.append(Dispatched(key=key, device="cuda:0", worker=1, attempt=1))

    def _finish(self, key: str) -> None:
        lock, journal = self._running.pop(key)
        self.maker.finish(key)
        journal.close()
        lock.release()
        self._log.append(StageDone(key=key, seconds=60.0, score=92.0))

    def _beat(self) -> None:
        upcoming = self._todo[:NEXT]
        now = time.time()
        beat = HeartbeatRecord(
            run="r1", pid=os.getpid(), host="h", time=now, started=START, version="0", plans=self._plans,
            devices=tuple(self._device(index) for index in range(DEVICES)),
            running={key: self._stage(number) for number, key in enumerate(self._running)},
            queue=QueueBeat(next=tuple(upcoming)),
            eta=EtaBeat(
                end=now + 90_000,
                trials={trial: now + 60 for trial in list(self.maker.trials)[-TRIALS:]},
                stages=dict.fromkeys(upcoming, 600.0),
            ),
        )  # fmt: skip
        write_record(self.maker.paths.heartbeat, beat)

    def _device(self, index: int) -> DeviceBeat:
        return DeviceBeat(
            id=f"cuda:{index}", name="NVIDIA H200", uuid=f"GPU-{index}", kind="cuda", slots=2,
            running=tuple(self._running)[index::DEVICES],
            utilisation=60.0 + (7 * self._frame + index) % 40, memory_used=(20 + index) << 30,
            memory_total=141 << 30, temperature=60.0, power=400.0 + self._frame,
        )  # fmt: skip

    def _stage(self, number: int) -> RunningBeat:
        return RunningBeat(
            device=f"cuda:{number % DEVICES}", worker=number, pid=1, attempt=1, since=START,
            step=100 * self._frame + number, steps=100_000, loss=0.3, score=90.0, eta=600.0, trials=1,
        )  # fmt: skip


def _epoch(frame: int, number: int, steps: int) -> Epoch:
    score = 60.0 + (frame + number) % 30
    return Epoch(
        epoch=frame + 1, step=(frame + 1) * steps, lr=0.1, train_loss=0.3, loss=0.3, train_score=90.0,
        score=score, seconds=12.0, metrics={"accuracy": score, "top5": 99.0, "train_accuracy": 90.0},
    )  # fmt: skip
