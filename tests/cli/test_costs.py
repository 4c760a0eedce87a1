"""`show` forecasts from what was measured; `run` says which versions of the code it would mix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prunectl.scheduler import eta
from prunectl.scheduler.devices.base import Device
from prunectl.spec import key as spec_key
from prunectl.spec.stage import Stage
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import last_use
from prunectl.store.records.provenance import installed_versions, version_warnings
from tests.cli.conftest import Done
from tests.support.fake_store import FakeStore
from tests.support.records import read_json, write_json

Run = Callable[..., Done]
VERSIONS = installed_versions()


@pytest.fixture
def measured(tmp_path: Path, plan: Path, here: Run) -> Path:
    """A store in which one dense stage of the tiny plan took 1.6 s, 100 MB of memory and 1 MB of disk."""
    store = tmp_path / "store"
    shown = json.loads(here("show", plan, "--store", store, "--json").stdout)
    assert shown["cost"] is None
    stage = next(each for each in shown["stage_list"] if "mask" not in each["spec"]["stage"])
    files = StorePaths(store).stage(stage["key"])
    write_json(files.spec, stage["spec"])
    result = {"key": stage["key"], "steps": 16, "seconds": 1.6, "peak_memory": 100_000_000}
    result |= {"device": "cpu", "ended": 1.0, "files": {"final.safetensors": 1_000_000}}
    write_json(files.result, result)
    return store


def test_show_forecasts_time_memory_and_disk(measured: Path, plan: Path, here: Run) -> None:
    shown = json.loads(here("show", plan, "--store", measured, "--devices", "cpu", "--json").stdout)
    cost = shown["cost"]
    slots = cost["slots"]
    steps = shown["steps_to_run"]
    assert cost["device_seconds"] == pytest.approx(0.1 * steps / slots)
    assert cost["wall_seconds"] >= cost["device_seconds"]
    assert (cost["memory"], cost["disk"]) == (100_000_000, 10_000_000)  # 9 stages, and a replay
    assert cost["unmeasured"] == []
    text = here("show", plan, "--store", measured, "--devices", "cpu").stdout
    assert "device-hours" in text
    assert "100 MB for each worker" in text
    assert "10 MB" in text


@pytest.mark.parametrize("by", ["streams", "processes"])
def test_show_forecasts_for_the_slots_that_are_asked_for(
    tmp_path: Path, plan: Path, here: Run, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    asked: list[Device] = []
    gpu = Device("cuda:0", "cuda", "a gpu", 1, "GPU-0", 1 << 30)
    monkeypatch.setattr("prunectl.scheduler.devices.system.SystemLayer.devices", lambda _: [gpu])
    monkeypatch.setattr(eta, "estimate", lambda paths, graph, devices: asked.extend(devices))
    done = here("show", plan, "--slots", "4", "--slots-by", by, "--store", tmp_path / "none")
    assert [(each.slots, each.slots_by) for each in asked] == [(4, by)], done.stderr


def test_show_says_what_was_never_run(measured: Path, plan: Path, here: Run) -> None:
    both = 'grid.network=["lenet-300-100","lenet-5"]'
    larger = ["--set", both, "--set", "datasets.toy.width=28", "--set", "datasets.toy.height=28"]
    done = here("show", plan, "--store", measured, "--devices", "cpu", *larger)
    assert "without lenet-5 on synthetic: never run here" in done.stdout, done.stderr


def test_show_says_that_nothing_is_known(tmp_path: Path, plan: Path, here: Run) -> None:
    shown = here("show", plan, "--store", tmp_path / "none").stdout
    assert "nothing like it has been run in this store yet" in shown
    assert not (tmp_path / "none").exists()


def test_versions_that_would_be_mixed_are_told(tmp_path: Path) -> None:
    paths = StorePaths(tmp_path)
    now = {"prunectl": VERSIONS[0], "torch": VERSIONS[1] + "+cu130"}
    old = now | {"torch": "2.11.0+cpu"}
    for key, versions in (("a" * 64, now), ("b" * 64, old), ("c" * 64, old)):
        write_json(paths.stage(key).result, {"key": key, "versions": versions})
    (said,) = version_warnings(paths, ["a" * 64, "b" * 64, "c" * 64, "d" * 64])
    assert said.startswith(f"2 stages were computed by prunectl {VERSIONS[0]} with torch 2.11.0;")
    assert version_warnings(paths, ["a" * 64]) == []


def test_a_plan_recorded_now_is_the_newest_although_the_clock_was_set_back(tmp_path: Path) -> None:
    maker = FakeStore(tmp_path)
    maker.plan("demo")
    for path in maker.paths.plans.glob("*.json"):
        write_json(path, read_json(path) | {"created": 9e9})
    assert last_use(maker.paths) == 9e9


def test_show_expands_a_plan_once_and_encodes_nothing_for_further_seeds(
    tmp_path: Path, plan: Path, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[object] = []
    to_json = spec_key.to_json
    monkeypatch.setattr(spec_key, "to_json", lambda value: encoded.append(value) or to_json(value))
    numbers = []
    for seeds in ("[0]", str(list(range(50)))):
        encoded.clear()
        done = here("show", plan, "--store", tmp_path / "store", "--set", f"seeds={seeds}")
        assert done.returncode == 0
        numbers.append(sum(isinstance(value, Stage) for value in encoded))
    assert numbers == [6, 6]  # two strategies of a dense stage and two levels
