"""Death between any two writes: a process killed before the n-th of its writes, fsyncs and renames, for every n.

For workers, stages are run in forked copies of this process, which has torch loaded and their data in memory: a
death costs a twentieth of a second, so every n is tried. For schedulers the real command is run.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from prunectl.ml.network_summary import check
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import write_study
from prunectl.worker.run import StageControl, run
from prunectl.worker.trainer_cache import TrainerCache
from tests.chaos import study
from tests.support.records import write_spec

SMALL = ['recipe.length="3ep"', 'recipe.schedule.milestones=["1ep","2ep"]']
SMALL += ['recipe.retrain.weight-rewind="2ep"', 'grid.strategy=["weight-rewind"]']
SMALL += ["datasets.toy.train=256", "datasets.toy.test=100", "datasets.toy.width=8"]


@dataclass(frozen=True)
class Bench:
    """A small plan and trainers that are warm."""

    plan: Expansion
    trainers: TrainerCache

    @classmethod
    def make(cls, folder: Path) -> Bench:
        """Everything loaded, and nothing written."""
        plan = expand(loads(study.PLAN, overrides=SMALL), check)
        trainers = TrainerCache(folder / "data", "cpu")
        for spec in plan.stages.values():
            trainers.give_back(spec, trainers.borrow(spec))
        return cls(plan, trainers)

    def order(self) -> list[str]:
        """Keys, each after what it needs."""
        return list(dict.fromkeys(key for trial in self.plan.trials for key in trial.path))

    def prepare(self, store: Path) -> None:
        """The plan and the stages' descriptions, as a scheduler writes them."""
        paths = StorePaths(store)
        write_study(paths, self.plan.study())
        for key, spec in self.plan.stages.items():
            write_spec(paths, key, spec)

    def keep(self, key: str) -> frozenset[int]:
        """The rewind points that the stage's children start from, and its start."""
        wanted = (spec.weights for spec in self.plan.stages.values())
        return frozenset(
            {0, *(w.step for w in wanted if w.stage == key and w.step is not None)}
            if self.plan.stages[key].mask is None
            else ()
        )

    def work(self, store: Path) -> None:
        """Run all stages, with a checkpoint after every epoch."""
        for key in self.order():
            control = StageControl(keep=self.keep(key), checkpoint_every=0.0)
            for _ in run(key, StorePaths(store), self.trainers, control):
                pass

    def calls(self, store: Path) -> list[str]:
        """Run to the end; every write, fsync and rename on the way."""
        self.prepare(store)
        log = store / "calls.txt"
        assert self.fork(store, lambda number, what: _note(log, what)) == 0
        return log.read_text().splitlines()

    def fork(self, store: Path, hook: Callable[[int, str], None]) -> int:
        """Work in a forked copy, with `hook` before every call; how it ended, as `os.waitstatus_to_exitcode`."""
        pid = os.fork()
        if pid == 0:
            self._child(store, hook)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _child(self, store: Path, hook: Callable[[int, str], None]) -> None:
        number = 0

        class Counted(files.Disk):
            def before(self, action: str, path: Path) -> None:
                nonlocal number
                number += 1
                hook(number, f"{action} {path.name}")

        files.use(Counted())
        try:
            self.work(store)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)


def _note(log: Path, what: str) -> None:
    with log.open("a") as file:
        file.write(what + "\n")


def die_at(last: int) -> Callable[[int, str], None]:
    """A hook that kills its process before the call number `last`."""

    def hook(number: int, what: str) -> None:
        if number == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def nothing(number: int, what: str) -> None:
    """A hook that lets everything pass."""


def worker_deaths(folder: Path, every: int = 1, twice: bool = False) -> tuple[int, list[str]]:
    """Kill a worker before each of its calls (or `every` second, third …), and let another go on.

    `twice` kills the second one, too, at the same distance from its own start. How many deaths there were, and
    what was not as it should be.
    """
    bench = Bench.make(folder)
    calls = bench.calls(folder / "whole")
    reference = study.files(folder / "whole")
    deaths, problems = 0, []
    for number in range(every, len(calls) + 1, every):
        store = folder / f"worker-{number}"
        bench.prepare(store)
        for _ in range(2 if twice else 1):
            deaths += bench.fork(store, die_at(number)) == -signal.SIGKILL
        if (code := bench.fork(store, nothing)) != 0:
            problems.append(f"before call {number} ({calls[number - 1]}): exit status {code}")
            continue
        found = study.files(store)
        left = {name for name in found if name.endswith("latest.safetensors")}  # for `store gc`
        said = [
            name
            for name in reference.keys() | found.keys() - left
            if found.get(name) != reference.get(name)
        ]
        problems += [f"before call {number} ({calls[number - 1]}): {text}" for text in said]
    return deaths, problems


def scheduler_deaths(
    folder: Path, reference: study.Facts, numbers: Iterable[int] | None = None
) -> tuple[int, list[str]]:
    """The same for the scheduler's calls, by the real command; without numbers until it outlives them."""
    plan = folder / "chaos.toml"
    deaths, problems = 0, []
    for number in numbers or range(1, 10_000):
        store, log = folder / f"scheduler-{number}", folder / f"scheduler-{number}.log"
        count = folder / f"scheduler-{number}.count"
        process = study.start(
            plan, store, log, PRUNECTL_DIE=f"scheduler:{number}", PRUNECTL_DIE_COUNT=str(count)
        )
        died = process.wait(300) == -signal.SIGKILL
        deaths += died
        what = count.read_text().splitlines()[-1]
        if not study.all_gone(store):
            problems.append(f"processes are left: {study.processes(store)}")
        code = study.finish(plan, store, log)
        if code != 0:
            problems.append(f"before call {number} ({what}): exit status {code}")
        else:
            said = study.differences(reference, study.facts(store))
            problems += [f"before call {number} ({what}): {text}" for text in said]
        if not died and numbers is None:
            break
    return deaths, problems
