"""A stage that is interrupted on one kind of device and goes on on another."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunectl.spec.key import stage_key
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record
from prunectl.store.records.events import Epoch, Start, read_events
from prunectl.store.records.result import Result
from prunectl.worker.run import StageControl, run
from prunectl.worker.trainer_cache import TrainerCache
from prunectl.worker.versions import device_name
from tests.support.records import write_spec
from tests.support.sharing import spec

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("order", [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_stage_goes_on_on_another_kind_of_device(
    tmp_path: Path, order: tuple[str, str], precision: str
) -> None:
    """From the checkpoint that it left, and the result says so."""
    stage, paths = spec("resnet-8", 0, 24, precision=precision), StorePaths(tmp_path)
    key = stage_key(stage)
    write_spec(paths, key, stage)
    folder = paths.stage(key)
    first = StageControl(yield_every=2)
    steps = run(key, paths, TrainerCache(tmp_path, order[0]), first)
    for _ in range(6):
        next(steps)
    first.stop_by = 0.0
    assert list(steps)
    assert first.outcome == "interrupted"
    second = StageControl()
    assert list(run(key, paths, TrainerCache(tmp_path, order[1]), second))
    assert second.outcome == "done"
    records = read_events(folder.events).records
    starts = [record for record in records if isinstance(record, Start)]
    assert [start.resumed for start in starts] == [False, True]
    assert [start.device for start in starts] == list(order)
    assert starts[1].step > 0
    result = read_record(folder.result, Result)
    models = tuple(dict.fromkeys(map(device_name, order)))
    assert result.device_names == (models if len(models) > 1 else ())
    assert result.device_name == models[-1]
    assert result.steps == max(record.step for record in records if isinstance(record, Epoch))
