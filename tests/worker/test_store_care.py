"""`store verify` finds what is wrong; `store gc` removes only what nothing needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunectl.errors import StoreBusy
from prunectl.spec.stage import Weights
from prunectl.store import files, gc
from prunectl.store.db.ingest import ingest
from prunectl.store.files import set_aside
from prunectl.store.locks import Lock
from prunectl.store.paths import StagePaths
from prunectl.store.records.plan import write_study
from prunectl.store.verdict import Verdict
from prunectl.store.verify import StageCheck, verify
from prunectl.worker.checkpoint import load_state, save_masks, save_state
from prunectl.worker.failures import MissingInput
from prunectl.worker.prepare import read_stage, read_state
from tests.support.records import resealed, write_json

Make = Callable[..., Any]


@pytest.fixture
def lab(laboratory: Make) -> Any:
    """A dense stage and two iterations of weight rewinding from it, with their plan."""
    made = laboratory('grid.strategy=["weight-rewind"]')
    write_study(made.paths, made.plan.study())
    dense, *others = made.path("weight-rewind")[:3]
    made.run(dense)
    for key in others:
        made.run(key, keep=())
    return made


def problems(lab: Any) -> list[str]:
    found: Verdict = verify(lab.paths)
    return found.problems


def test_a_sound_store_has_no_problems(lab: Any) -> None:
    found = verify(lab.paths)
    assert not found.problems
    assert not found.notes
    assert (found.stages, found.done) == (3, 3)
    assert found.files == 2 + 3 + 2 + 3, "rewind points, ends, masks, predictions"
    assert len(found.checksums) == 3


@pytest.mark.parametrize("name", ["final", "mask", "rewind-7"])
def test_a_flipped_bit_and_a_torn_file_are_found(lab: Any, name: str) -> None:
    dense, first, *_ = lab.path("weight-rewind")
    folder = lab.paths.stage(dense if name == "rewind-7" else first).folder
    path = folder / f"{name}.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 1
    path.write_bytes(whole)
    assert any(f"{path} is not what its checksum says" in text for text in problems(lab))
    path.write_bytes(whole[: len(whole) // 2])
    assert any(f"{path} cannot be read" in text for text in problems(lab))


def test_a_result_that_contradicts_its_files_is_found(lab: Any) -> None:
    key = lab.path("weight-rewind")[1]
    files = lab.paths.stage(key)
    result = lab.result(key)
    write_json(files.result, result | {"kept": result["kept"] + 1})
    assert any("weights are kept, the mask" in text for text in problems(lab))
    for change in ({"score": 12.5}, {"metrics": result["metrics"] | {"accuracy": 12.5}}):
        write_json(files.result, result | change)
        assert any("in result.json is not that of the last epoch" in t for t in problems(lab))
    write_json(files.result, result | {"epochs": 99})
    assert any("counts 99 epochs" in text for text in problems(lab))
    files.result.write_text("{")
    assert any("is unusable" in text for text in problems(lab))


def test_weights_that_came_back_are_found(lab: Any) -> None:
    parent = lab.path("weight-rewind")[1]
    masks = {name: ~mask for name, mask in lab.masks(parent).items()}
    save_masks(lab.paths.stage(parent).mask, masks, parent)
    assert any("came back that" in text for text in problems(lab))


def test_a_folder_that_holds_another_stage_is_found(lab: Any) -> None:
    first, second = (lab.paths.stage(key) for key in lab.path("weight-rewind")[1:3])
    second.spec.write_bytes(first.spec.read_bytes())
    assert any("describes another stage" in text for text in problems(lab))


def test_a_missing_record_is_found(lab: Any) -> None:
    events = lab.paths.stage(lab.path("weight-rewind")[1]).events
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(lines[:2] + lines[3:]))
    assert any("vouches for" in text for text in problems(lab))
    events.write_text("".join(lines[:2] + lines[3:-1]))
    found = problems(lab)
    assert any("records are missing" in text for text in found)
    assert any("is not the log that result.json vouches for" in text for text in found)


@pytest.mark.parametrize(
    ("field", "named"), [("type", "that is malformed"), ("epoch", "without its number")]
)
def test_a_record_without_its_type_or_number_is_found(lab: Any, field: str, named: str) -> None:
    events = lab.paths.stage(lab.path("weight-rewind")[1]).events
    lines = events.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if json.loads(line)["type"] == "epoch")
    record = json.loads(lines[at])
    del record[field]
    lines[at] = resealed(json.dumps(record))
    events.write_text("\n".join([*lines, ""]))
    assert any(named in text for text in problems(lab))


def names(found: list[gc.Removal]) -> set[str]:
    return {each.path.name for each in found}


def test_gc_keeps_what_an_unfinished_stage_starts_from(lab: Any) -> None:
    keys = lab.path("weight-rewind")
    assert names(gc.removable(lab.paths)) == {"rewind-0.safetensors"}
    lab.run(keys[3], keep=())
    assert names(gc.removable(lab.paths)) == {"rewind-0.safetensors", "rewind-7.safetensors"}


def test_gc_removes_the_superseded_and_never_a_result(lab: Any) -> None:
    keys = lab.path("weight-rewind")
    dense = lab.paths.stage(keys[0])
    folder = dense.folder
    dense.latest.write_bytes(b"old")
    (folder / "mask.safetensors.corrupt-17").write_bytes(b"torn")
    (folder / ".final.safetensors.999999999.abcd.tmp").write_bytes(b"half")
    unfinished = lab.paths.stage(keys[3])
    lab.write(keys[3])
    unfinished.latest.write_bytes(b"needed")
    kept = {path for path in lab.paths.root.rglob("*") if path.is_file()}
    found = gc.removable(lab.paths)
    assert names(found) == {
        "latest.safetensors",
        "mask.safetensors.corrupt-17",
        ".final.safetensors.999999999.abcd.tmp",
        "rewind-0.safetensors",
    }
    assert gc.remove(lab.paths, found) == sum(each.bytes for each in found)
    left = {path for path in lab.paths.root.rglob("*") if path.is_file()}
    assert kept - left == {each.path for each in found}
    assert unfinished.latest.exists()
    assert not gc.removable(lab.paths)
    unfinished.latest.unlink()
    assert not problems(lab)


def test_gc_waits_for_the_scheduler_to_end(lab: Any) -> None:
    found = gc.removable(lab.paths)
    with Lock(lab.paths.scheduler_lock), pytest.raises(StoreBusy):
        gc.remove(lab.paths, found)
    assert all(each.path.exists() for each in found)


def test_gc_looks_again_before_it_removes(lab: Any) -> None:
    """Between the question and the answer a stage was begun anew."""
    dense = lab.paths.stage(lab.path("weight-rewind")[0])
    dense.latest.write_bytes(b"old")
    found = gc.removable(lab.paths)
    assert names(found) == {"latest.safetensors", "rewind-0.safetensors"}
    dense.result.rename(dense.result.with_name("result.json.damaged-1"))
    assert gc.remove(lab.paths, found) == 0
    assert dense.latest.exists()
    assert dense.rewind(0).exists()


def test_a_checkpoint_that_no_result_names_is_named_and_not_started_from(lab: Any) -> None:
    """Such as of an attempt on another machine, beside the stage that was imported since."""
    dense = lab.path("weight-rewind")[0]
    stage = lab.paths.stage(dense)
    state = load_state(stage.rewind(7))
    next(iter(state.weights.values())).add_(1)
    save_state(stage.rewind(9), replace(state, step=9), dense)
    assert any("rewind-9.safetensors is none of the files" in text for text in problems(lab))
    with pytest.raises(MissingInput, match="not the file that its stage's result names"):
        read_state(lab.paths, Weights(dense, 9))
    assert not stage.rewind(9).exists()
    assert read_state(lab.paths, Weights(dense, 7)).step == 7


def test_what_an_attempt_left_goes_when_the_stage_starts_over(lab: Any) -> None:
    key = lab.path("weight-rewind")[0]
    stage = lab.paths.stage(key)
    before = lab.result(key)
    for path in (stage.result, stage.final):
        path.unlink()
    save_state(stage.rewind(3), replace(load_state(stage.rewind(7)), step=3), key)
    after = lab.run(key)
    assert not stage.rewind(3).exists()
    assert after["digests"] == before["digests"]


def test_a_result_that_came_meanwhile_is_not_taken_for_damaged(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import lands it after the worker looked and before it has the lock."""
    key = lab.path("weight-rewind")[1]
    stage = lab.paths.stage(key)
    away = stage.result.rename(stage.folder / "away")

    def landing(folder: StagePaths) -> Any:
        away.rename(stage.result)
        return read_stage(folder)

    monkeypatch.setattr("prunectl.worker.run.read_stage", landing)
    data = away.read_bytes()
    lab.run(key)
    assert stage.result.read_bytes() == data
    assert not list(stage.folder.glob("*.damaged-*"))


def test_beside_a_run_nothing_is_taken_for_damaged(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that is replaced or removed while it is read, and a result that is set aside to be made again."""
    keys = lab.path("weight-rewind")
    stage = lab.paths.stage(keys[0])
    stage.latest.write_bytes(stage.rewind(7).read_bytes())
    read = files.disk.read

    def reading(path: Path | str, offset: int = 0) -> bytes:
        data = read(path, offset)
        if path == stage.latest:
            stage.latest.unlink()
        if path == stage.events and stage.result.exists():
            set_aside(stage.result)
        return data

    monkeypatch.setattr(files.disk, "read", reading)
    check = StageCheck(lab.paths, stage, Verdict())
    check.run()
    assert check.verdict.problems == []
    assert check.verdict.done == 0
    assert not stage.latest.exists()
    assert not stage.result.exists()


def test_a_folder_that_is_no_stages_is_noted_and_harms_nothing(lab: Any) -> None:
    """As `cp -r stages/KEY stages/KEY-old` makes."""
    key = lab.path("weight-rewind")[0]
    folder = lab.paths.stage(key).folder
    shutil.copytree(folder, folder.with_name("mine"))
    found = verify(lab.paths)
    assert found.problems == []
    assert any("mine is no stage's folder" in note for note in found.notes)
    assert ingest(lab.paths).notes == []


def test_a_stage_whose_parent_lost_its_mask_says_so(lab: Any) -> None:
    keys = lab.path("weight-rewind")
    lab.paths.stage(keys[2]).mask.unlink()
    with pytest.raises(MissingInput, match="lost its mask") as caught:
        lab.run(keys[3])
    assert caught.value.key == keys[2]


def test_results_tell_the_peak_of_memory(lab: Any) -> None:
    result = json.loads(lab.paths.stage(lab.path("weight-rewind")[0]).result.read_text())
    assert 10 << 20 < result["peak_memory"] < 100 << 30


def test_what_a_killed_process_left_is_swept_up_by_the_next(lab: Any) -> None:
    key = lab.path("weight-rewind")[3]
    lab.write(key)
    torn = Path(lab.paths.stage(key).folder / ".final.safetensors.999999999.abcd.tmp")
    torn.write_bytes(b"half")
    lab.run(key)
    assert not torn.exists()
