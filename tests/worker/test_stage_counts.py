"""What stages write and do grows with the work, no faster; and stages that share a process do not notice each other."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prunectl.ml.datasets.registry import describe
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.key import stage_key
from prunectl.spec.lr_schedule import constant
from prunectl.spec.settings import (
    AugmentSettings,
    DataSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    PruneSettings,
    TrainSettings,
)
from prunectl.spec.stage import Mask, Stage, Weights
from prunectl.store.paths import StorePaths
from prunectl.worker.checkpoint import load_state
from prunectl.worker.run import StageControl, run
from prunectl.worker.trainer_cache import TrainerCache
from tests.support.records import events as read
from tests.support.records import spec_json, write_json

OPTIONS = (("classes", 4), ("height", 8), ("test", 40), ("train", 96), ("width", 8))
EPOCH = 3


def dense(seed: int, epochs: int = 2, precision: str = "fp32") -> Stage:
    about = describe("synthetic", OPTIONS)
    training = TrainSettings(
        batch=32,
        evaluate_every=EPOCH,
        optimizer=OptimizerSettings(nesterov=True),
        augment=AugmentSettings(1, "zero", True),
        normalize=NormalizeSettings("channel", about.mean, about.std),
        precision=precision,  # type: ignore[arg-type]
    )
    return Stage(
        NetworkSettings("convnet", about.shape, about.classes),
        DataSettings("synthetic", about.fingerprint, OPTIONS),
        training,
        constant(0.05, EPOCH * epochs),
        seed,
    )


def retrain(parent: Stage) -> Stage:
    key = stage_key(parent)
    return Stage(
        parent.network,
        parent.data,
        parent.train,
        constant(0.01, EPOCH),
        parent.seed,
        1,
        Weights(key),
        Mask(key, PruneSettings(density="0.5")),
    )


def begin(
    paths: StorePaths, trainers: TrainerCache, spec: Stage, control: StageControl | None = None
) -> Iterator[bool]:
    folder = paths.stage(stage_key(spec))
    folder.folder.mkdir(parents=True, exist_ok=True)
    write_json(folder.spec, spec_json(spec))
    return run(stage_key(spec), paths, trainers, control or StageControl())


def finish(steps: Iterator[bool]) -> None:
    for _ in steps:
        pass


def counts(root: Path, trials: int) -> dict[str, int]:
    paths, trainers = StorePaths(root), TrainerCache(root, "cpu")
    specs = [spec for seed in range(trials) for spec in (dense(seed), retrain(dense(seed)))]
    for spec in specs:
        finish(begin(paths, trainers, spec))
    folders = [paths.stage(stage_key(spec)) for spec in specs]
    records = [record for folder in folders for record in read(folder.events)]
    return {
        "steps": sum(r["steps"] for r in records if r["type"] == "done"),
        "records": len(records),
        "epochs": sum(r["type"] == "epoch" for r in records),
        "files": sum(1 for path in paths.stages.rglob("*") if path.is_file()),
    }


def test_ten_times_the_trials_are_ten_times_the_steps_records_and_files(tmp_path: Path) -> None:
    one, ten = counts(tmp_path / "one", 1), counts(tmp_path / "ten", 10)
    assert ten == {name: 10 * count for name, count in one.items()}
    assert one["steps"] == 3 * EPOCH
    assert one["epochs"] == 3


def test_a_worker_holds_no_more_tensors_after_many_stages_than_after_few(tmp_path: Path) -> None:
    def held() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    paths, trainers = StorePaths(tmp_path), TrainerCache(tmp_path, "cpu")
    after = []
    for seed in range(6):
        for spec in (dense(seed), retrain(dense(seed))):
            finish(begin(paths, trainers, spec))
        after.append(held())
    assert after[1:] == after[1:2] * 5


@pytest.mark.parametrize("epochs", [1, 4])
def test_an_epoch_writes_one_record_and_no_file(tmp_path: Path, epochs: int) -> None:
    spec = dense(0, epochs)
    paths = StorePaths(tmp_path)
    finish(begin(paths, TrainerCache(tmp_path, "cpu"), spec))
    folder = paths.stage(stage_key(spec))
    assert sorted(path.name for path in folder.folder.iterdir()) == sorted(
        path.name
        for path in (
            folder.spec,
            folder.events,
            folder.result,
            folder.final,
            folder.predictions,
            folder.lock,
        )
        if path.exists()
    )
    kinds = [record["type"] for record in read(folder.events)]
    assert kinds == ["start", "begin", *["epoch"] * epochs, "done"]


def test_one_trainer_serves_all_stages_of_a_workload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    build = Trainer._allocate
    monkeypatch.setattr(
        Trainer, "_allocate", lambda self, task: (made.append(1), build(self, task))[1]
    )
    counts(tmp_path, 3)
    assert len(made) == 1


def test_interleaved_stages_have_the_bits_of_each_alone(tmp_path: Path) -> None:
    alone, together = StorePaths(tmp_path / "alone"), StorePaths(tmp_path / "together")
    specs = [dense(seed, 3) for seed in range(3)]
    for spec in specs:
        finish(begin(alone, TrainerCache(tmp_path, "cpu"), spec))
    trainers = TrainerCache(tmp_path, "cpu")
    going = [begin(together, trainers, spec) for spec in specs]
    while going:
        going = [steps for steps in going if next(steps, None) is not None]
    for spec in specs:
        one, other = alone.stage(stage_key(spec)), together.stage(stage_key(spec))
        first, second = load_state(one.final), load_state(other.final)
        for kind in ("weights", "optimizer", "accumulators"):
            for name, tensor in getattr(first, kind).items():
                assert torch.equal(getattr(second, kind)[name], tensor), name


def test_emulated_bf16_is_noted_and_computed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prunectl.worker.run.emulation", lambda kind, precision: "bf16 is emulated")
    spec = dense(0, 1, "bf16")
    paths, trainers = StorePaths(tmp_path), TrainerCache(tmp_path, "cpu")
    finish(begin(paths, trainers, spec))
    notes = [r["text"] for r in read(paths.stage(stage_key(spec)).events) if r["type"] == "note"]
    assert notes == ["bf16 is emulated"]
    assert "bf16 is emulated" in capsys.readouterr().err


def test_a_step_that_could_not_be_recorded_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [["steps run eagerly, not as CUDA graphs: why"]]
    monkeypatch.setattr(Trainer, "notes", lambda self: said.pop() if said else [])
    spec = dense(0)
    paths = StorePaths(tmp_path)
    finish(begin(paths, TrainerCache(tmp_path, "cpu"), spec))
    notes = [r["text"] for r in read(paths.stage(stage_key(spec)).events) if r["type"] == "note"]
    assert notes == ["steps run eagerly, not as CUDA graphs: why"]
