"""A changed byte of a record is named, or changes nothing that anybody reads.

`python -m tests.full damage` changes every byte of a whole small store; of the numbers of a tensor, which one checksum
covers, every 97th.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prunectl.errors import ExitCode, StoreError
from prunectl.store import requests
from prunectl.store.db import query
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records import dataset
from prunectl.store.records.base import read_record
from prunectl.store.records.dataset import read_dataset
from prunectl.store.records.events import read_events
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.labels import read_labels
from prunectl.store.records.plan import read_plan
from prunectl.store.records.provenance import read_run
from prunectl.store.records.requests import Hold
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import read_scheduler_log
from prunectl.store.records.stage import has_result, read_result, read_spec
from prunectl.store.records.store_format import read_format
from prunectl.store.tensors import CheckedFile, read_checked
from prunectl.store.verdict import Verdict
from prunectl.store.verify import StageCheck, verify
from prunectl.store.verify_database import indexed_lines
from prunectl.store.verify_records import check_records
from tests.cli.conftest import TINY, prunectl
from tests.full import full

PLAN = TINY.replace("[0, 1]", "[0]") if full() else TINY
OF_STAGES = (
    "spec.json", "result.json", "events.jsonl", "final.safetensors", "mask.safetensors", "predictions.safetensors",
)  # fmt: skip
OF_THE_STORE = (
    "plans/*.json", "runs/*.json", "datasets/*.json", "labels/*.json", "control/requests/*.json",
    "control/heartbeat.json", "scheduler.jsonl", "format.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StorePaths:
    """The store of a tiny plan that was run, with a request that waits."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "tiny.toml").write_text(PLAN)
    done = prunectl("run", "tiny.toml", "--store", "store", "--plain", cwd=folder)
    assert done.returncode == 0, done.stderr
    paths = StorePaths(folder / "store")
    requests.send(paths, Hold(trials=("t" * 16,)))
    for name in ("one", "two"):  # of data that are made up there is no record
        dataset.write_datasets(paths, [dataset.dataset_record("toy", name, {"a": name})])
    assert verify(paths).problems == []
    return paths


@pytest.fixture
def store(made: StorePaths, tmp_path: Path) -> StorePaths:
    """A copy of it to spoil."""
    return StorePaths(Path(shutil.copytree(made.root, tmp_path / "store")))


def stages(paths: StorePaths) -> list[StagePaths]:
    """A dense stage and all that were pruned from it, one after the other."""
    found = [StagePaths(path) for path in sorted(paths.stages.iterdir())]
    return sorted(found, key=lambda stage: read_spec(stage).stage.iteration)


Checked = dict[str, CheckedFile]


@dataclass(frozen=True)
class Known:
    """What is not read again for each change."""

    checkpoints: dict[Path, Checked]
    """Of each stage, sound."""
    indexed: tuple[int, str]
    """How much of the scheduler's log the database has read."""


def known_of(paths: StorePaths) -> Known:
    """What is known of a whole store."""
    found = {stage.folder: {path.name: read_checked(path) for path in stage.folder.glob("*.safetensors")}
            for stage in stages(paths)}  # fmt: skip
    return Known(found, indexed_lines(paths))


def named(paths: StorePaths, path: Path, known: Known | None = None) -> list[str]:
    """What the checks of `store verify` say of a file of the store, those of the database left out."""
    verdict = Verdict()
    if not path.is_relative_to(paths.stages):
        check_records(paths, verdict, known.indexed if known else indexed_lines(paths))
        return verdict.problems
    check = StageCheck(paths, StagePaths(path.parent), verdict)
    if known is None:
        check.run()
        return verdict.problems
    found = dict(known.checkpoints[path.parent])
    if path.suffix == ".safetensors":
        one = check.checkpoint(path)
        if one is None or verdict.problems:
            return verdict.problems
        found[path.name] = one
    check.records(path.with_name("result.json").exists(), found)
    return verdict.problems


def meaning(path: Path) -> Any:
    """What anybody can read of a file: tables, exports, later stages. Raises StoreError where it is refused."""
    name, folder = path.name, path.parent.name
    if path.suffix == ".safetensors":
        found = read_checked(path)
        tensors = {name: (array.dtype, array.tobytes()) for name, array in found.arrays.items()}
        return found.checksum, tensors, dict(found.metadata)
    if name in ("events.jsonl", "scheduler.jsonl"):
        log = (read_events if name == "events.jsonl" else read_scheduler_log)(path)
        return log.records
    readers: dict[str, Callable[[Path], Any]] = {
        "spec.json": lambda path: read_spec(StagePaths(path.parent)),
        "result.json": lambda path: read_result(StagePaths(path.parent)),
        "format.json": lambda path: read_format(StorePaths(path.parent)),
        "heartbeat.json": lambda path: read_record(path, HeartbeatRecord),
        "requests": lambda path: requests.pending(StorePaths(path.parents[2])),
        "plans": read_plan, "runs": read_run, "datasets": read_dataset, "labels": read_labels,
    }  # fmt: skip
    return (readers.get(name) or readers[folder])(path)


Damage = Callable[[bytes, int, random.Random], bytes]


def flip(data: bytes, place: int, chance: random.Random) -> bytes:
    """One bit of a byte flipped."""
    changed = bytearray(data)
    changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(data: bytes, place: int, chance: random.Random) -> bytes:
    """Cut before a byte."""
    return data[:place]


def digit(data: bytes, place: int, chance: random.Random) -> bytes:
    """A digit changed to another; as it is where there is none."""
    byte = chr(data[place])
    if not byte.isdigit():
        return data
    return data[:place] + chance.choice("0123456789".replace(byte, "")).encode() + data[place + 1 :]


def files_of(paths: StorePaths) -> list[Path]:
    """One file of each kind, of a pruned stage where it is a stage's; in full all files."""
    dense, *_, pruned = stages(paths)
    rewinds = sorted(dense.folder.glob("rewind-*"))
    if full():
        every = [path for pattern in OF_THE_STORE for path in paths.root.glob(pattern)]
        return every + [path for stage in stages(paths) for path in sorted(stage.folder.iterdir())
                        if path.suffix in (".json", ".jsonl", ".safetensors")]  # fmt: skip
    own = [next(paths.root.glob(pattern)) for pattern in OF_THE_STORE]
    return own + [pruned.folder / name for name in OF_STAGES] + rewinds[:1]


def places_of(path: Path, data: bytes) -> list[int]:
    """Where a file is changed in full: everywhere, and in numbers of tensors at every 97th byte."""
    if path.suffix != ".safetensors":
        return list(range(len(data)))
    header = 8 + int.from_bytes(data[:8], "little")
    return [*range(header), *range(header, len(data), 97)]


def silent(paths: StorePaths, path: Path, changed: bytes, whole: Any, known: Known) -> bool:
    """Whether nobody names the change, and something else is read than was written."""
    path.write_bytes(changed)
    if named(paths, path, known):
        return False
    try:
        return bool(meaning(path) != whole)
    except StoreError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, cut, digit])
def test_no_change_is_silent(store: StorePaths, damage: Damage) -> None:
    chance = random.Random(damage.__name__)
    tried = 0
    known = known_of(store)
    for path in files_of(store):
        data, whole = path.read_bytes(), meaning(path)
        places: Sequence[int] = places_of(path, data) if full() else range(len(data))
        if damage is digit:
            places = [place for place in places if chr(data[place]).isdigit()]
        for place in places if full() else chance.sample(places, min(len(places), 60)):
            changed = damage(data, place, chance)
            assert not silent(store, path, changed, whole, known), (path, place, changed[:4000])
            tried += 1
        path.write_bytes(data)
    print(f"{damage.__name__}: {tried} changes, none silent")
    assert verify(store).problems == []


def kinds(paths: StorePaths) -> dict[str, list[Path]]:
    """Files of the store, by what may be mistaken for each other."""
    found = {pattern: sorted(paths.root.glob(pattern)) for pattern in OF_THE_STORE[:5]}
    for name in OF_STAGES[:3]:
        found[name] = [stage.folder / name for stage in stages(paths)]
    found["checkpoints"] = sorted(paths.stages.glob("*/final.*")) + sorted(
        paths.stages.glob("*/rewind-*")
    )
    for name in ("mask", "predictions"):
        found[name] = sorted(paths.stages.glob(f"*/{name}.*"))
    return found


def test_two_files_of_a_kind_are_not_swapped_in_silence(store: StorePaths) -> None:
    chance = random.Random(0)
    tried = 0
    for files in kinds(store).values():
        pairs = [(one, two) for one, two in itertools.combinations(files, 2)
                 if one.read_bytes() != two.read_bytes()]  # fmt: skip
        for one, two in pairs if full() else chance.sample(pairs, min(len(pairs), 12)):
            first, second = one.read_bytes(), two.read_bytes()
            one.write_bytes(second)
            two.write_bytes(first)
            assert named(store, one), (one, two)
            assert named(store, two), (one, two)
            one.write_bytes(first)
            two.write_bytes(second)
            tried += 1
    print(f"{tried} pairs swapped, none silent")
    assert tried > 20


@pytest.mark.slow
def test_the_command_names_what_its_checks_do(store: StorePaths) -> None:
    """And its exit status is 3; what is damaged is in no table and named by `status`."""
    chance = random.Random(1)
    files = files_of(store)
    for _ in range(50 if full() else 8):
        path = chance.choice(files)
        data, whole = path.read_bytes(), meaning(path)
        changed = chance.choice([flip, digit])(data, chance.randrange(len(data)), chance)
        path.write_bytes(changed)
        problems = verify(store).problems
        assert problems or meaning(path) == whole, (path, changed)
        path.write_bytes(data)
        query.bring_up_to_date(store)
    result = stages(store)[1].result
    data = bytearray(result.read_bytes())
    data[data.index(b'"score":') + 8] ^= 1
    result.write_bytes(bytes(data))
    done = prunectl("store", "verify", "--store", store.root, cwd=store.root.parent)
    assert done.returncode == ExitCode.STORE
    assert "result.json is not what its checksum says" in done.stdout
    status = prunectl("status", "--store", store.root, cwd=store.root.parent)
    assert "result.json is not what its checksum says" in status.stdout + status.stderr
    key = result.parent.name
    assert not has_result(store, key)
    assert query.run(store, "SELECT done FROM stages WHERE stage = $1", [key]).rows == [(False,)]


def test_a_damaged_result_is_set_aside_and_made_again_when_its_plan_is_run(
    store: StorePaths,
) -> None:
    """From the end of its log, without training: the same bytes."""
    result = stages(store)[1].result
    data = result.read_bytes()
    result.write_bytes(data.replace(b'"kept"', b'"gone"'))
    logs = {path: path.read_bytes() for path in store.stages.glob("*/events.jsonl")}
    (store.root.parent / "tiny.toml").write_text(PLAN)
    done = prunectl("run", "tiny.toml", "--store", store.root, "--plain", cwd=store.root.parent)
    assert done.returncode == 0, done.stderr
    assert result.read_bytes() == data
    assert [path.read_bytes() for path in result.parent.glob("result.json.damaged-*")] != [data]
    assert logs == {path: path.read_bytes() for path in store.stages.glob("*/events.jsonl")}
    assert verify(store).problems == []


def test_a_stage_with_a_damaged_log_is_run_again_where_its_result_is_damaged_too(
    store: StorePaths,
) -> None:
    stage = stages(store)[1]
    before = read_result(stage)
    for path in (stage.result, stage.events):
        path.write_bytes(path.read_bytes().replace(b'"score":', b'"scorn":', 1))
    (store.root.parent / "tiny.toml").write_text(PLAN)
    done = prunectl("run", "tiny.toml", "--store", store.root, "--plain", cwd=store.root.parent)
    assert done.returncode == 0, done.stderr
    after = read_result(stage)
    assert (after.digests, after.score, after.loss) == (before.digests, before.score, before.loss)
    assert list(stage.folder.glob("events.jsonl.damaged-*"))
    assert verify(store).problems == []


def test_a_damaged_plan_record_is_healed_by_running_its_file(store: StorePaths) -> None:
    [path] = store.plans.glob("*.json")
    before = read_plan(path)
    path.write_bytes(path.read_bytes().replace(b'"name":"tiny"', b'"name":"tony"'))
    assert any("checksum" in text for text in verify(store).problems)
    (store.root.parent / "tiny.toml").write_text(PLAN)
    done = prunectl("run", "tiny.toml", "--store", store.root, "--plain", cwd=store.root.parent)
    assert done.returncode == 0, done.stderr
    after = read_plan(path)
    assert (after.trials, after.stages) == (before.trials, before.stages)
    assert list(store.plans.glob(f"{path.name}.damaged-*"))
    assert verify(store).problems == []


def test_lines_that_are_gone_from_the_end_of_the_schedulers_log_are_missed(
    store: StorePaths,
) -> None:
    lines = store.scheduler_log.read_bytes().splitlines(keepends=True)
    store.scheduler_log.write_bytes(b"".join(lines[:-2]))
    assert any("scheduler.jsonl" in text for text in verify(store).problems)
    assert any("scheduler.jsonl" in text for text in verify(store).problems), "not only once"
    store.database.unlink()
    found = verify(store)
    assert found.problems == []
    assert any("unsealed after line" in text for text in found.notes)


def interrupted(stage: StagePaths) -> None:
    """Let a stage be as one that was stopped after its checkpoint at a rewind point."""
    kept = stage.rewind(8)
    lines = stage.events.read_bytes().splitlines(keepends=True)
    last = max(
        n for n, line in enumerate(lines) if kept.name.encode() in line and b'"checkpoint"' in line
    )
    stage.events.write_bytes(b"".join(lines[: last + 1]))
    stage.latest.write_bytes(kept.read_bytes())
    stage.result.unlink()
    stage.final.unlink()
    StorePaths(stage.folder.parents[1]).database.unlink()  # it has read more of the log


def test_a_checkpoint_of_another_step_is_not_gone_on_from(store: StorePaths) -> None:
    """Though its tensors are as they were."""
    stage = stages(store)[0]
    before = read_result(stage)
    interrupted(stage)
    assert verify(store).problems == []
    data = stage.latest.read_bytes()
    place = data.index(b'"step":"') + len(b'"step":"')
    stage.latest.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert any("latest.safetensors" in text for text in verify(store).problems)
    assert_comes_to(store, stage, before)


def test_a_checkpoint_is_not_gone_on_from_without_its_log(store: StorePaths) -> None:
    """What the log said of the epochs before would be missing in the result."""
    stage = stages(store)[0]
    before = read_result(stage)
    interrupted(stage)
    lines = stage.events.read_bytes().splitlines(keepends=True)
    stage.events.write_bytes(lines[0])
    assert any("knows of no checkpoint" in text for text in verify(store).problems)
    assert_comes_to(store, stage, before)


def assert_comes_to(store: StorePaths, stage: StagePaths, before: Result) -> None:
    """That the stage, run again, comes to the result that it had."""
    (store.root.parent / "tiny.toml").write_text(PLAN)
    done = prunectl("run", "tiny.toml", "--store", store.root, "--plain", cwd=store.root.parent)
    assert done.returncode == 0, done.stderr
    after = read_result(stage)
    assert (after.digests, after.score, after.loss) == (before.digests, before.score, before.loss)
    assert (after.epochs, after.score_start) == (before.epochs, before.score_start)
    assert verify(store).problems == []


def test_logs_of_two_stages_are_not_swapped_before_their_ends(store: StorePaths) -> None:
    one, two = stages(store)[-2:]
    for stage in (one, two):
        stage.result.unlink()
        lines = stage.events.read_bytes().splitlines(keepends=True)
        stage.events.write_bytes(b"".join(lines[:-1]))
    first, second = one.events.read_bytes(), two.events.read_bytes()
    one.events.write_bytes(second)
    two.events.write_bytes(first)
    assert len([text for text in verify(store).problems if "is of stage" in text]) == 2
