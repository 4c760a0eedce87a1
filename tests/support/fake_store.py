"""Makes a synthetic store: plans, stage folders, logs and results as the workers would leave them.

    store = FakeStore(tmp_path)
    store.plan("demo", strategies=("fine-tune", "lr-rewind"), seeds=3)
    store.finish_all()

    make_store(tmp_path, trials=10_000, iterations=5, epochs=10)

The benches measure on such stores, and the tests read them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from prunectl.spec.key import Spec, stage_key
from prunectl.spec.seeds import Seeds
from prunectl.spec.stage import Stage
from prunectl.store.files import write_text
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord, write_record
from prunectl.store.records.events import Begin, Epoch, LayerCount, Pruned, Start
from prunectl.store.records.journal import Journal
from prunectl.store.records.provenance import Git, RunRecord
from prunectl.store.records.result import Result
from tests.support.fake_plan import Plan
from tests.support.records import write_json

PRUNABLE = 270_896
PARAMETERS = 272_474
MACS = 40_813_184
LAYERS = 21
START = 1_760_000_000.0
"""Unix seconds of the first record."""

EFFECT = {"fine-tune": -9.0, "weight-rewind": -5.0, "lr-rewind": -4.0, "reinit": -12.0}
"""Percentage points lost at full sparsity, so that strategies differ as they do in life."""


def sha(*parts: object) -> str:
    """A digest, as of a stage or a plan."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def seed_fields(seeds: Seeds) -> dict[str, Any]:
    """The fields that a trial and its stages have of their seeds."""
    own = {"order_seed": seeds.own_order, "augment_seed": seeds.own_augment}
    return {"seed": seeds.init, **{name: seed for name, seed in own.items() if seed is not None}}


def key_of(stage: dict[str, Any]) -> str:
    """The key of a stage in plain values."""
    return stage_key(msgspec.convert(stage, Stage))


@dataclass
class FakeStore:
    """Writes one store; the same arguments always write the same files."""

    root: Path
    epochs: int = 3
    epoch_steps: int = 391

    def __post_init__(self) -> None:
        self.paths = StorePaths(self.root)
        self.stages: dict[str, dict[str, Any]] = {}
        self.trials: dict[str, list[str]] = {}
        self.seconds = 0.0

    # Plans

    def plan(
        self,
        name: str = "demo",
        *,
        strategies: tuple[str, ...] = ("fine-tune", "lr-rewind"),
        seeds: int | Sequence[Seeds] = 3,
        sparsities: tuple[str, ...] = ("0.2", "0.36", "0.488"),
        schedule: str | Sequence[str] = "iterative 0.2",
        network: str | Sequence[str] = "resnet-20",
        dataset: str = "cifar10",
        recipe: str = "mikler2021-resnet",
        version: str = "1",
        created: float | str = START,
    ) -> str:
        """Write plans/<digest>.json; the digest."""
        plan = Plan(name, sha(name, version), created)
        schedules = [schedule] if isinstance(schedule, str) else schedule
        ladders = [
            (each, ladder)
            for each in schedules
            for ladder in ([sparsities] if each.startswith("iterative") else zip(sparsities))
        ]
        networks = [network] if isinstance(network, str) else network
        every = [Seeds.of(n) for n in range(seeds)] if isinstance(seeds, int) else seeds
        for each, strategy, (how, ladder), own in product(networks, strategies, ladders, every):
            path = self._path(each, dataset, recipe, strategy, how, ladder, own)
            cell = (each, dataset, recipe, strategy, how, *ladder[-1:])
            trial = plan.add(
                path, trial=sha("trial", *cell, own)[:16], cell=sha("cell", *cell)[:16],
                network=each, dataset=dataset, recipe=recipe, strategy=strategy, schedule=how,
                criterion="magnitude", scope="global", granularity="weight", retrain="182ep",
                sparsities=["0", *ladder], **seed_fields(own),
            )  # fmt: skip
            self.trials[trial] = list(path)
        self.stages |= plan.stages
        write_json(self.paths.plan(plan.digest), plan.record())
        return plan.digest

    def _path(
        self, network: str, dataset: str, recipe: str, strategy: str, schedule: str,
        ladder: tuple[str, ...], seeds: Seeds,
    ) -> dict[str, dict[str, Any]]:  # fmt: skip
        """The stages of one trial by key, in order."""
        steps = self.epochs * self.epoch_steps
        base = {
            "network": {"name": network, "shape": [3, 32, 32], "classes": 10},
            "data": {"name": dataset, "fingerprint": f"of {recipe}"},
            "train": {} if seeds.own_augment is None else {"augment": {"flip": True}},
            "lr": [{"lr": 0.1, "steps": steps // 2}, {"lr": 0.01, "steps": steps - steps // 2}],
            **seed_fields(seeds),
        }
        names = ("stage", network, dataset, recipe, seeds)
        parent = key_of(base)
        out = {parent: self._stage(base, sha(*names))}
        # What strategies differ in is not made up here: the fingerprint gives their stages keys of their own.
        data = {"name": dataset, "fingerprint": f"of {recipe} {strategy} {schedule}"}
        for k, sparsity in enumerate(ladder, start=1):
            mask = {"parent": parent, "settings": {"density": str(1 - Decimal(sparsity))}}
            own = {"data": data, "iteration": k, "weights": {"stage": parent}, "mask": mask}
            parent = key_of({**base, **own})
            noise = sha(*names, strategy, schedule, *ladder[:k])
            out[parent] = self._stage({**base, **own}, noise, strategy)
        return out

    def _stage(self, stage: dict[str, Any], noise: str, strategy: str = "dense") -> dict[str, Any]:
        return {
            "noise": noise,
            "spec": {"numerics": 1, "stage": stage},
            "steps": self.epochs * self.epoch_steps,
            "epoch_steps": self.epoch_steps,
            "labels": {"strategy": strategy},
        }

    # Stages

    def numbers(self, key: str) -> tuple[int, float, random.Random]:
        """Weights kept, final accuracy, and the stage's own source of noise."""
        stage = self.stages[key]["spec"]["stage"]
        noise = random.Random(self.stages[key]["noise"])
        density = float(stage["mask"]["settings"]["density"]) if "mask" in stage else 1.0
        strategy = self.stages[key]["labels"]["strategy"]
        lost = EFFECT.get(strategy, 0.0) * (1 - density) ** 4
        accuracy = round(92.0 + 0.2 * (stage["seed"] % 3) + lost + noise.gauss(0, 0.1), 2)
        return round(PRUNABLE * density), accuracy, noise

    def log(self, key: str, attempt_epochs: range | None = None, first: bool = True) -> None:
        """One attempt's records up to an epoch: all of them unless told."""
        spec = self.stages[key]
        stage = self.paths.stage(key)
        if not stage.spec.exists():
            write_text(stage.spec, msgspec.convert(spec["spec"], Spec).to_json() + "\n")
        kept, accuracy, noise = self.numbers(key)
        journal = Journal(stage.events, clock=self._clock)
        epochs = attempt_epochs or range(1, self.epochs + 1)
        begin = (epochs.start - 1) * self.epoch_steps
        where = {"device": "cpu", "device_name": "test", "host": "host", "pid": 1}
        journal.append(Start(step=begin, **where, versions={"torch": "2.11"}))  # type: ignore[arg-type]
        if first and "mask" in spec["spec"]["stage"]:
            total = PRUNABLE // LAYERS
            left = total * kept // PRUNABLE
            journal.append(
                Pruned(
                    kept=kept, prunable=PRUNABLE, parameters=PARAMETERS, macs=MACS, macs_dense=MACS,
                    layers=tuple(LayerCount(f"layer{i}", total, left) for i in range(LAYERS)),
                    metrics={"accuracy_pruned": 50.0}, score_pruned=50.0, loss_pruned=2.0,
                )
            )  # fmt: skip
        start = {"accuracy_start": 50.0}
        journal.append(Begin(metrics=start, score_start=50.0, loss_start=2.0))  # type: ignore[arg-type]
        for epoch in epochs:
            step = epoch * self.epoch_steps
            half = self.epochs * self.epoch_steps // 2
            lr = 0.1 if step <= half else 0.01
            before = step - self.epoch_steps
            rates: list[tuple[int, float | None]] = [(before, 0.1 if before < half else 0.01)]
            if before < half < step:
                rates.append((half, 0.01))
            score = accuracy - (self.epochs - epoch) * 0.1
            journal.append(
                Epoch(
                    epoch=epoch, step=step, lr=lr, rates=tuple(rates), train_loss=1 / epoch,
                    loss=0.3 + 1 / epoch, train_score=accuracy, score=score, seconds=12.5 + noise.random(),
                    metrics={"accuracy": score, "top5": 99.5, "train_accuracy": accuracy},
                )
            )  # fmt: skip
        journal.close()

    def finish(self, key: str, **changes: Any) -> None:
        """Complete the stage: its whole log and its result."""
        if not self.paths.stage(key).events.exists():
            self.log(key)
        kept, accuracy, noise = self.numbers(key)
        stage = self.stages[key]["spec"]["stage"]
        pruned = "mask" in stage
        result = Result(
            key=key, steps=self.stages[key]["steps"], seed=stage["seed"],
            iteration=stage.get("iteration", 0), kept=kept, prunable=PRUNABLE,
            parameters=PARAMETERS, kept_parameters=PARAMETERS - PRUNABLE + kept,
            macs=MACS * kept // PRUNABLE, macs_dense=MACS, loss=0.35, train_loss=0.01,
            epochs=self.epochs, retrain_epochs=float(self.epochs),
            seconds=self.epochs * 12.5 + noise.random(), device="cpu", device_name="test",
            attempt=1, versions={"torch": "2.11"}, started=START, ended=START + 60,
            files={"final.safetensors": 1_090_000},
        )  # fmt: skip
        measured = {
            "accuracy_pruned": 50.0 if pruned else None, "accuracy_start": 50.0, "accuracy": accuracy,
            "top5": 99.5, "best_accuracy": accuracy + 0.1, "train_accuracy": 99.0,
        }  # fmt: skip
        for name, value in changes.items():
            if hasattr(result, name):
                setattr(result, name, value)
            else:
                measured[name] = value
        result.metrics = measured
        for name, value in measured.items():
            score = name.replace("accuracy", "score")
            if hasattr(result, score):
                setattr(result, score, value)
        write_record(self.paths.stage(key).result, result)

    def finish_all(self) -> None:
        """Complete every stage of every plan."""
        for key in self.stages:
            self.finish(key)

    def finish_all_but_one(self) -> None:
        """Record a run of all plans, and complete their stages but for the last one; one of them has diverged."""
        self.run(digests=tuple(path.stem for path in self.paths.plans.glob("*.json")))
        keys = list(self.stages)
        for key in keys[:-1]:
            self.finish(key)
        self.finish(keys[2], flag="diverged", loss=None)

    def _clock(self) -> float:
        self.seconds += 1.0
        return START + self.seconds

    # Runs and the scheduler

    def run(self, name: str = "r1", digests: tuple[str, ...] = (), started: float = START) -> None:
        """Write runs/<name>.json."""
        record = RunRecord(
            run=name, plans=digests, started=started, argv=("prunectl", "run"), cwd="/tmp",
            git=Git("abc", False), packages={"torch": "2.11"}, host="host", devices=("cpu",),
            python="3.11.7", prunectl="0.1.0",
        )  # fmt: skip
        write_record(self.paths.run(name), record)

    def scheduler(self, record: LogRecord) -> None:
        """Add a record to the scheduler's log."""
        journal = Journal(self.paths.scheduler_log, clock=self._clock)
        journal.append(record)
        journal.close()


def make_store(
    root: Path,
    *,
    trials: int,
    iterations: int = 13,
    epochs: int = 182,
    seeds: int = 14,
    plans: int | None = None,
    done: float = 1.0,
    tell: Callable[[str], None] = lambda text: None,
) -> FakeStore:
    """A large store: iterative studies of four strategies, with at least `trials` trials (exactly, where those are a
    multiple of 4 × `seeds`) and so about `iterations` stages for each.

    `plans` is the number of plans, None one for each network of 4 × `seeds` trials. The first `done` of the trials
    (a fraction) are finished and the others not begun. The database is not made.
    """
    maker = FakeStore(root, epochs=epochs)
    ladder = tuple(str(1 - Decimal("0.8") ** k) for k in range(1, iterations + 1))
    networks = [f"resnet-{n}" for n in range(-(-trials // (len(EFFECT) * seeds)))]
    count = plans or len(networks)
    for n in range(count):
        maker.plan(
            f"p{n}",
            strategies=tuple(EFFECT),
            seeds=seeds,
            sparsities=ladder,
            network=networks[n::count],
            created=START + n,
        )
    finished = list(maker.trials.values())[: round(done * len(maker.trials))]
    keys = list(dict.fromkeys(key for path in finished for key in path))
    for number, key in enumerate(keys):
        if number % 1000 == 0:
            tell(f"making a store: {number:,} of {len(keys):,} stages")
        maker.finish(key)
    return maker
