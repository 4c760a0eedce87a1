"""Tiny plans run through the real worker code, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.spec.stage import Stage
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record
from prunectl.store.records.result import Result
from prunectl.worker.checkpoint import load_masks, load_state
from prunectl.worker.run import StageControl, run
from prunectl.worker.trainer_cache import TrainerCache
from tests.support.checking import check
from tests.support.records import as_dict, events, write_spec
from tests.support.tiny_plans import tiny_plan

TINY = tiny_plan(
    seeds=[0],
    network="convnet",
    strategies=["fine-tune", "weight-rewind", "lr-rewind"],
    train=200,
    test=50,
    epochs=6,
    batch=32,
    milestones=(3, 5),
    rewound=5,
    recipe="augment = { pad = 1, flip = true }\n",
    iterations=3,
)


class Laboratory:
    """A store, a plan and a worker's trainers; `run` does stages as a worker would."""

    def __init__(self, root: Path, *overrides: str, text: str = TINY) -> None:
        self.paths = StorePaths(root)
        self.plan: Expansion = expand(loads(text, overrides=overrides), check)
        self.trainers = TrainerCache(root / "data", "cpu")

    def spec(self, key: str) -> Stage:
        return self.plan.stages[key]

    def path(self, strategy: str, seed: int = 0) -> tuple[str, ...]:
        """Keys of a trial's stages."""
        return next(t.path for t in self.plan.trials if t.strategy == strategy and t.seed == seed)

    def write(self, key: str, spec: Stage | None = None) -> None:
        write_spec(self.paths, key, spec or self.spec(key))

    def run(
        self, key: str, spec: Stage | None = None, *, keep: tuple[int, ...] = (0, 7)
    ) -> dict[str, Any]:
        """Run one stage to its end; its result."""
        self.write(key, spec)
        control = StageControl(keep=frozenset(keep))
        for _ in run(key, self.paths, self.trainers, control):
            pass
        assert control.outcome == "done"
        return self.result(key)

    def interrupt(self, key: str, turns: int, *, keep: tuple[int, ...] = (0, 7)) -> None:
        """Run one stage for so many turns of a step each, and have it stop then."""
        self.write(key)
        control = StageControl(keep=frozenset(keep), yield_every=1)
        steps = run(key, self.paths, self.trainers, control)
        for _ in range(turns):
            next(steps, None)
        control.stop_by = 0.0
        for _ in steps:
            pass
        assert control.outcome == "interrupted"

    def run_all(self) -> Laboratory:
        """Run all stages of the plan, each trial's in order."""
        for trial in self.plan.trials:
            for key in trial.path:
                if not self.paths.stage(key).result.exists():
                    self.run(key)
        return self

    def run_trial(self, strategy: str) -> list[dict[str, Any]]:
        """Run a trial's stages; their results."""
        return [self.run(key) for key in self.path(strategy)]

    def result(self, key: str) -> dict[str, Any]:
        """The fields of its result, and its metrics beside them."""
        found = as_dict(read_record(self.paths.stage(key).result, Result))
        return {**found["metrics"], **found}

    def events(self, key: str, kind: str = "") -> list[dict[str, Any]]:
        """The records of its log, of one type or all, with their metrics beside the other fields."""
        records = events(self.paths.stage(key).events)
        found = [{**record.get("metrics", {}), **record} for record in records]
        return [record for record in found if kind in ("", record["type"])]

    def final(self, key: str) -> Any:
        return load_state(self.paths.stage(key).final)

    def masks(self, key: str) -> Any:
        return load_masks(self.paths.stage(key).mask)


@pytest.fixture
def laboratory(tmp_path: Path) -> Callable[..., Laboratory]:
    """Makes laboratories, each with a store of its own."""
    made = 0

    def make(*overrides: str, text: str = TINY) -> Laboratory:
        nonlocal made
        made += 1
        return Laboratory(tmp_path / f"store-{made}", *overrides, text=text)

    return make
