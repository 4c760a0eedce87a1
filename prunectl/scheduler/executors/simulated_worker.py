"""A worker of a simulated world. It trains nothing, and keeps a stage's files as the real worker does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prunectl.errors import DiskError, StoreError
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors.simulated_behaviour import Behaviour, Fate
from prunectl.scheduler.executors.simulated_chain import (
    ChainState,
    Missing,
    link,
    next_value,
    result_of,
)
from prunectl.scheduler.executors.simulated_world import Process
from prunectl.spec.key import Spec, spec_key
from prunectl.spec.stage import Stage, replay_of
from prunectl.store import files
from prunectl.store.files import leftovers
from prunectl.store.locks import Lock
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.events import Epoch, Failed, Interrupted, Start
from prunectl.store.records.journal import Journal
from prunectl.store.records.messages import (
    AnyCommand,
    AnyMessage,
    Beat,
    CancelStage,
    Progress,
    Ready,
    RunStage,
    StageDone,
    StageFailed,
    StageInterrupted,
    StageStarted,
)
from prunectl.store.records.stage import has_result, read_spec


@dataclass(eq=False)
class _Attempt:
    """An attempt at a stage that the worker has."""

    key: str
    number: int
    stage: Stage
    place: StagePaths
    keep: tuple[int, ...]
    fate: Fate
    lock: Lock
    journal: Journal
    state: ChainState
    trouble_at: int
    """Step before which its fate comes true."""

    def close(self) -> None:
        self.journal.close()
        self.lock.release()


class SimulatedWorker:
    """The worker's own side: what it does when it is told something, and as time passes."""

    def __init__(
        self,
        paths: StorePaths,
        process: Process,
        device: Device,
        behaviour: Behaviour,
        say: Callable[[AnyMessage], None],
        vanish: Callable[[], None],
    ) -> None:
        self.status, self.how, self.log = -9, "killed by SIGKILL", ""
        self.code = behaviour.code
        self.stages: dict[str, _Attempt] = {}
        self._paths, self._process, self._device = paths, process, device
        self._behaviour, self._say, self._vanish = behaviour, say, vanish
        self._last_words: dict[str, AnyMessage] = {}
        """What it said last of each stage that it gave back."""
        self._newest: dict[str, int] = {}
        """The last attempt at each stage that it was told of."""
        self._turns = 0
        self._epoch_steps = behaviour.epoch_steps
        self._stopping = False
        process.at_death.append(self._forget_all)
        process.after(process.world.chance.uniform(0.5, 1.0) * behaviour.boot_seconds, self._boot)

    def _boot(self) -> None:
        if self._behaviour.stillborn(self._process.world, self._device):
            self.log = "ImportError: libcudart.so.13: cannot open shared object file"
            self.leave("ended with exit status 1", 1)
            return
        self._say(Ready(device_name=self._device.name, code=self.code))
        self._beat()

    def _beat(self) -> None:
        running = {
            key: Progress(each.number, each.state.step, each.stage.steps, 0.5, 50.0)
            for key, each in self.stages.items()
        }
        self._say(Beat(running=running, turns=self._turns))
        self._process.after(self._behaviour.beat_seconds, self._beat)

    def leave(self, how: str, status: int) -> None:
        """End: `how` is what its scheduler is told, in words."""
        if self._process.alive:
            self.how, self.status = how, status
            self._process.kill()

    def _forget_all(self) -> None:
        for attempt in self.stages.values():
            self._behaviour.ended(self._process, attempt.key, attempt.number)
        self.stages.clear()

    # commands

    def carry_out(self, command: AnyCommand) -> None:
        """Do what the scheduler says; what is said twice is done once."""
        match command:
            case RunStage():
                if command.attempt > self._newest.get(command.key, 0):
                    self._newest[command.key] = command.attempt
                    self._begin(command)
            case CancelStage(key=key):
                if key in self.stages:
                    self._interrupt(key)
            case _:
                self._stopping = True
                for key in list(self.stages):
                    self._interrupt(key)
                self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._stopping and not self.stages:
            self.leave("ended with exit status 0", 0)

    def _begin(self, command: RunStage) -> None:
        key, place = command.key, self._paths.stage(command.key)
        if has_result(self._paths, key):
            self._say(StageDone(key, command.attempt))
            return
        world, lock = self._process.world, Lock(place.lock)
        try:
            lock.acquire()
        except StoreError as error:
            self._say(StageFailed(key, command.attempt, "exception", str(error)))
            return
        self._behaviour.began(self._process, key, command.attempt)
        try:
            for path in leftovers(place.folder):
                files.disk.unlink(path, missing_ok=True)
            stage = read_spec(place).stage
            journal = Journal(place.events, world.time, command.attempt)
        except (OSError, StoreError) as error:
            lock.release()
            self._behaviour.ended(self._process, key, command.attempt)
            self._say(_failure(key, command.attempt, error))
            return
        fate = self._behaviour.fate(world, key, command.attempt, self._device)
        attempt = _Attempt(
            key, command.attempt, stage, place, command.keep, fate, lock, journal, ChainState(0, ""),
            trouble_at=self._epoch_steps * world.chance.randint(0, max(0, stage.steps // self._epoch_steps - 1)),
        )  # fmt: skip
        self.stages[key] = attempt
        if key in self._last_words and world.chance.random() < self._behaviour.echo:
            world.fault("message of an older attempt")
            self._say(self._last_words[key])
        self._guarded(attempt, lambda: self._start(attempt))

    def _start(self, attempt: _Attempt) -> None:
        attempt.state = self._resumed(attempt) or ChainState(0, self._first(attempt))
        attempt.journal.append(
            Start(
                key=attempt.key,
                step=attempt.state.step,
                device=self._device.id,
                pid=self._process.pid,
            )
        )
        self._say(StageStarted(attempt.key, attempt.number))
        self._later(attempt)

    def _later(self, attempt: _Attempt) -> None:
        seconds = self._behaviour.epoch_seconds * self._process.world.chance.uniform(0.5, 1.5)
        self._process.after(seconds, lambda: self._turn(attempt))

    # a stage

    def _resumed(self, attempt: _Attempt) -> ChainState | None:
        try:
            return read_record(attempt.place.latest, ChainState)
        except FileNotFoundError:
            return None

    def _first(self, attempt: _Attempt) -> str:
        """Return the first link of the stage's chain, made of what it starts from."""
        stage = attempt.stage
        value = attempt.key
        if stage.replay and stage.checkpoint is not None:
            return stage.checkpoint[0]  # the dense stage's own first link
        for source in (stage.weights, *stage.averaged_with):
            if source.stage is not None:
                value = link(value, self._read(source.stage, source.step).value)
        if stage.mask is not None:
            value = link(value, self._read(stage.mask.parent, None).value)
            self._write(attempt.place.mask, ChainState(0, value))
        return value

    def _read(self, key: str, step: int | None) -> ChainState:
        place = self._paths.stage(key)
        try:
            return read_record(place.final if step is None else place.rewind(step), ChainState)
        except FileNotFoundError:
            pass
        if step is not None:
            dense = read_spec(place)
            replay = Spec(dense.numerics, replay_of(dense.stage, key, step))
            try:
                return read_record(self._paths.stage(spec_key(replay)).rewind(step), ChainState)
            except FileNotFoundError:
                pass
        raise Missing(key)

    def _turn(self, attempt: _Attempt) -> None:
        if self.stages.get(attempt.key) is attempt:
            self._guarded(attempt, lambda: self._advance(attempt))

    def _advance(self, attempt: _Attempt) -> None:
        state, stage = attempt.state, attempt.stage
        self._keep(attempt)
        if attempt.fate not in ("normal", "deaf") and state.step >= attempt.trouble_at:
            self._meet_fate(attempt)
            return
        if state.step < stage.steps:
            state.step = min(state.step + self._epoch_steps, stage.steps)
            state.value = next_value(state.value, state.step)
            self._turns += 1
            attempt.journal.append(
                Epoch(
                    epoch=-(-state.step // self._epoch_steps), step=state.step, loss=0.5, score=50.0
                )
            )
            self._write(attempt.place.latest, state)
        if state.step < stage.steps:
            self._later(attempt)
            return
        self._keep(attempt)
        self._finish(attempt)

    def _keep(self, attempt: _Attempt) -> None:
        step = attempt.state.step
        if step in attempt.keep and not files.disk.exists(attempt.place.rewind(step)):
            self._write(attempt.place.rewind(step), attempt.state)

    def _finish(self, attempt: _Attempt) -> None:
        self._write(attempt.place.final, attempt.state)
        epochs = -(-attempt.stage.steps // self._epoch_steps)
        result = result_of(attempt.key, attempt.stage, attempt.state.value, epochs)
        result.attempt = attempt.number
        attempt.journal.append(result, durable=True)
        write_record(attempt.place.result, result)
        files.disk.unlink(attempt.place.latest, missing_ok=True)
        self._drop(attempt, StageDone(attempt.key, attempt.number))

    def _write(self, path: Path, state: ChainState) -> None:
        write_record(path, state)

    def _drop(self, attempt: _Attempt, message: AnyMessage) -> None:
        attempt.close()
        del self.stages[attempt.key]
        self._behaviour.ended(self._process, attempt.key, attempt.number)
        self._last_words[attempt.key] = message
        self._say(message)
        self._end_if_idle()

    def _interrupt(self, key: str) -> None:
        attempt = self.stages[key]
        if attempt.fate in ("deaf", "hang"):
            self._process.world.fault(f"stage: {attempt.fate}")
            return
        self._guarded(attempt, lambda: self._give_back(attempt))

    def _give_back(self, attempt: _Attempt) -> None:
        step = attempt.state.step
        attempt.journal.append(Interrupted(step=step))
        self._drop(attempt, StageInterrupted(attempt.key, attempt.number, step))

    # trouble

    def _guarded(self, attempt: _Attempt, work: Callable[[], None]) -> None:
        """Work on a stage; what goes wrong is the stage's failure."""
        try:
            work()
        except (OSError, StoreError, Missing) as error:
            self._fail(attempt, _failure(attempt.key, attempt.number, error))

    def _fail(self, attempt: _Attempt, message: StageFailed) -> None:
        failed = Failed(reason=message.reason, message=message.message)
        with contextlib.suppress(StoreError):  # on a full disk there is no room for it, either
            attempt.journal.append(failed, durable=True)
        self._drop(attempt, message)

    def _meet_fate(self, attempt: _Attempt) -> None:
        world, fate = self._process.world, attempt.fate
        world.fault(f"stage: {fate}")
        match fate:
            case "exception" | "oom" | "nonfinite" | "device":
                # Without digits, which do not tell two failures apart.
                name = attempt.key[:8].translate(str.maketrans("0123456789", "ghijklmnop"))
                said = StageFailed(attempt.key, attempt.number, fate, f"{fate} of {name}")
                self._fail(attempt, said)
                if fate == "device":
                    self.leave("ended with exit status 1", 1)
            case "crash":
                self.leave("killed by SIGSEGV", -11)
            case "liar":
                self._drop(attempt, StageDone(attempt.key, attempt.number))
            case "ghost":
                attempt.fate = "normal"
                self.cut_off()
                self._later(attempt)

    def cut_off(self) -> None:
        """Go on out of reach: nothing of it is heard any more, and it ends itself when it notices."""
        chance = self._process.world.chance
        self._vanish()
        end = lambda: self.leave("ended itself", 1)  # noqa: E731
        self._process.after(self._behaviour.ghost_seconds * chance.random(), end)


def _failure(key: str, attempt: int, error: Exception) -> StageFailed:
    reason = "missing" if isinstance(error, Missing) else "exception"
    reason = "disk" if isinstance(error, DiskError) else reason
    missing = error.key if isinstance(error, Missing) else None
    return StageFailed(key, attempt, reason, str(error), missing=missing)
