"""What `prunectl bench` measures with, tried at the smallest size: structure and equal work, never speed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch
from msgspec.structs import replace
from typer.testing import CliRunner

from prunectl.bench import baselines, rounds, scheduler, train, upkeep, workload
from prunectl.bench.records import (
    ContenderRow,
    Kind,
    Options,
    Precision,
    Ready,
    Report,
    RoundDone,
    Start,
    TrainResult,
)
from prunectl.bench.rounds import Child, Contender, compared, interval
from prunectl.cli.app import app
from prunectl.store.records.base import BadRecord, read_record
from prunectl.store.records.result import Result
from tests.support import fake_store
from tests.support.fake_store import FakeStore
from tests.support.records import events as read
from tests.support.records import write_json

TINY = workload.quick(workload.LENET)


def test_ratios_have_an_interval_and_ones_have_none() -> None:
    assert interval([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)
    mean, low, high = interval([2.0, 8.0])
    assert mean == pytest.approx(4.0)
    assert low < 4.0 < high
    assert interval([2.0])[1:] == (None, None)
    row = compared("x", [2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (row.seconds, row.fastest, row.slowest) == (4.0, 2.0, 6.0)
    assert row.ratio == pytest.approx(2.0)
    assert compared("x", [2.0], [1.0]).low is None


def test_work_travels_as_json() -> None:
    for each in (TINY, workload.RESNET, *workload.CIFAR.values()):
        start = Start("trainer", each, Options(graphs=False, slots=4, folder="/somewhere"))
        assert msgspec.json.decode(msgspec.json.encode(start), type=Start) == start
    assert workload.CIFAR["resnet-20"].steps == 391


def test_an_option_is_printed_where_it_is_not_the_default() -> None:
    printed = [
        [msgspec.to_builtins(each.options) for each in tables[0]]
        for tables in (train.cpu_tables(True), train.cuda_tables(True, "cuda"))
    ]
    assert printed == [
        [{}, {}, {"workers": 2}, {}],
        [
            *({"workers": 8}, {}, {"graphs": False}, {}, {}, {"fuse": True}),
            *({"fuse": True, "lanes": lanes} for lanes in (2, 4, 8)),
        ],
    ]


@pytest.mark.parametrize("line", ["Downloading…", "0.5", '{"is": "ready"}', '{"is": "done"}'])
def test_only_the_awaited_answer_of_a_contender_is_taken(line: str) -> None:
    def child(text: str) -> Child:
        return Child(
            Contender("ours", "bare", TINY), io.StringIO(), io.StringIO(text), io.StringIO()
        )

    assert child('{"is": "ready"}\n').answer(Ready) == Ready()
    assert child('{"is": "done", "seconds": 0.5}\n').answer(RoundDone).seconds == 0.5
    with pytest.raises(BadRecord, match="what ours wrote is"):
        child(line + "\n").answer(RoundDone)


@pytest.mark.parametrize("kind", ["bare", "trainer", "loader"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_everyone_does_the_same_steps(
    kind: Kind, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the batches that networks see while training: 16, 16 and 8 images."""
    seen = []
    forward = torch.nn.Linear.forward

    def counting(self: torch.nn.Linear, pixels: torch.Tensor) -> torch.Tensor:
        if self.in_features == 784 and torch.is_grad_enabled():
            seen.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(torch.nn.Linear, "forward", counting)
    options = Options(workers=0, slots=2)
    baselines.CONTENDERS[kind](replace(TINY, precision=precision), options)()
    assert (
        seen == [16, 16, 8] * (2 if kind == "trainer" else 1) or sorted(seen) == [8] * 2 + [16] * 4
    )


def test_a_round_of_prunectl_is_a_whole_pruned_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    run = baselines.run
    monkeypatch.setattr(
        baselines,
        "run",
        lambda key, paths, engines, control: (
            done.append(paths.stage(key)),
            run(key, paths, engines, control),
        )[1],
    )
    go = baselines.stage(TINY, Options(folder=str(tmp_path)))
    go()
    go()
    dense, *pruned = [read_record(folder.result, Result) for folder in done]
    assert dense.iteration == 0
    assert len(pruned) == 2
    for result in pruned:
        assert result.prunable is not None
        assert result.kept == round(0.2 * result.prunable)
        assert result.steps == 3


def test_tables_are_complete() -> None:
    assert [table[0].work.network for table in train.cpu_tables(False)] == [
        "lenet-300-100",
        "resnet-20",
    ]
    cuda = train.cuda_tables(False, "cuda", ["resnet-20"])[0]
    assert [each.label[:2].strip() for each in cuda] == ["B", "", "D", "E", "E'", "F", *"GGG"]
    assert {each.work.device for each in cuda} == {"cuda"}


def test_slots_are_doubled_while_it_pays() -> None:
    def row(seconds: float, options: Options) -> ContenderRow:
        return ContenderRow("x", *[seconds] * 3, 1.0, None, None, 1, options.slots, options)

    def rows(*seconds: float) -> list[ContenderRow]:
        fused = [Options(fuse=True, slots=slots) for slots in (1, 2, 4, 8)]
        return [row(9.0, Options()), *map(row, seconds, fused)]

    assert train.worth(rows(1.0, 0.6, 0.4, 0.39)) == 4
    assert train.worth(rows(1.0, 0.99, 0.2)) == 1
    assert train.worth(rows(1.0, 0.6, 0.4, 0.3)) == 8


def test_slots_worth_having_are_in_the_result_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.9, 1.0])  # of the tables' nine contenders
    monkeypatch.setattr(
        train, "timings", lambda contenders, *_: {contenders[0].label: [next(seconds)]}
    )
    (result,) = train.run(train.cuda_tables(True, "cuda", ["resnet-20"]), 1, lambda text: None)
    printed = msgspec.to_builtins(result)
    assert printed["lanes_worth_having"] == 2
    assert [row["lanes"] for row in printed["measured"]] == [1, 1, 1, 1, 1, 1, 2, 4, 8]


def test_a_contender_that_fails_says_why() -> None:
    bad = Contender("broken", "bare", replace(TINY, network="no-such-network"))
    with pytest.raises(rounds.BenchError, match=r"broken failed: .*no-such-network"):
        rounds.measure([bad], 1, lambda text: None)


@pytest.mark.slow
def test_bench_train_from_the_command_line() -> None:
    arguments = ["bench", "train", "--quick", "--network", "lenet-300-100", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    record = json.loads(result.stdout)
    measured = record["results"][0]["measured"]
    assert [row["label"] for row in measured][:2] == ["prunectl stage", "bare loop"]
    assert all(row["seconds"] > 0 and row["rounds"] == 1 for row in measured)
    assert {"cpu", "cores", "torch", "python"} <= record["machine"].keys()
    assert (record["results"][0]["work"]["steps"], measured[0]["lanes"]) == (3, 1)
    assert "lanes_worth_having" not in record["results"][0]
    report = msgspec.json.decode(result.stdout, type=Report[TrainResult])
    assert json.loads(msgspec.json.encode(report)) == record


def script(name: str) -> str:
    """What a script of the source tree prints."""
    command = [sys.executable, "-m", f"tests.bench.{name}", "--quick", "--json"]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["store", "tui"])
def test_what_is_measured_by_a_script_is_said(name: str) -> None:
    result = CliRunner().invoke(app, ["bench", name, "--quick"], catch_exceptions=False)
    assert result.exit_code == 2
    assert f"python -m tests.bench.{name} --quick" in result.stderr


@pytest.mark.slow
def test_bench_tui_watches_a_store_on_disk() -> None:
    figures = json.loads(script("tui"))
    assert figures["trials"] == 200
    assert 0 < figures["opening_seconds"] <= figures["opening_slowest"]
    assert figures["cpu_percent"] > 0
    assert figures["watcher_cpu_percent"] > 0
    assert figures["lag_p50_ms"] <= figures["lag_p95_ms"] <= figures["lag_max_ms"]


@pytest.mark.slow
def test_bench_scheduler_measures_a_gap_per_pair_of_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNECTL_LEASES", str(tmp_path))
    result = scheduler.run(3, True, lambda text: None)
    assert [row.gaps for row in result.gaps] == [2, 2]
    assert all(row.seconds > 0 for row in result.gaps)


@pytest.mark.slow
def test_bench_study_runs_both_to_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNECTL_LEASES", str(tmp_path))
    result = CliRunner().invoke(app, ["bench", "study", "--quick"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "prunectl run" in result.stdout
    assert "DataLoader script" in result.stdout


@pytest.mark.slow
def test_bench_scheduler_says_what_the_scheduler_needs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNECTL_LEASES", str(tmp_path / "leases"))
    found = upkeep.run(tmp_path / "store", 2.0, True, lambda text: None)
    assert found.workers == 4
    assert found.epochs_recorded > 0
    assert found.cpu_percent == pytest.approx(
        found.loop_percent + found.ingestion_percent, abs=1e-6
    )
    assert found.rss_end_mib > 1


def test_a_simulated_worker_leaves_a_stage_as_workers_do(tmp_path: Path) -> None:
    maker = FakeStore(tmp_path, epochs=3)
    maker.plan(seeds=1)
    key = next(iter(maker.stages))
    write_json(maker.paths.stage(key).spec, maker.stages[key]["spec"])
    command = [
        sys.executable,
        "-m",
        "prunectl.bench.reporting_worker",
        "--store",
        str(tmp_path),
    ]
    with subprocess.Popen(
        [*command, "--epoch", "0.01"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps({"do": "run", "key": key, "keep": [0, 39]}) + "\n")
        worker.stdin.flush()
        said = []
        while said[-1:] != ["done"]:
            said.append(json.loads(worker.stdout.readline())["is"])
        worker.stdin.close()
    assert [word for word in said if word != "beat"] == ["ready", "started", "done"]
    assert worker.returncode == 0
    records = read(maker.paths.stage(key).events)
    assert [record["epoch"] for record in records if record["type"] == "epoch"][-1] == 3
    assert json.loads(maker.paths.stage(key).result.read_text())["steps"] == 3 * 391
    assert maker.paths.stage(key).rewind_steps() == [0, 39]


def test_a_made_store_has_what_was_asked_for(tmp_path: Path) -> None:
    maker = fake_store.make_store(
        tmp_path, trials=16, iterations=2, epochs=2, seeds=2, plans=1, done=0.25
    )
    assert len(maker.trials) == 16
    assert len(maker.stages) == 2 * 2 + 16 * 2
    finished = {path.parent.name for path in maker.paths.stages.glob("*/result.json")}
    assert finished == {key for path in list(maker.trials.values())[:4] for key in path}
    assert len(list(maker.paths.plans.iterdir())) == 1


@pytest.mark.slow
def test_bench_store_measures_all_that_is_done_with_a_store() -> None:
    found = json.loads(script("store"))
    assert (found["store"]["stages"], found["store"]["epoch_rows"]) == (53, 159)
    assert found["store"]["rebuild_peak_mib"] > 1
    assert all(row["seconds"] > 0 for row in found["timings"])
    labels = [row["label"] for row in found["timings"]]
    for label in ("store rebuild", "rank of all plans", "prunectl sql"):
        assert label in labels


def alive(first: int) -> list[int]:
    """Processes below this one, itself included, that live."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
    found = [first] if first in parents else []
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "until", "number"),
    [
        # the scheduler in the bench's own process
        (["scheduler", "--stages", "500"], 2, signal.SIGTERM),
        (["scheduler", "--stages", "500"], 2, signal.SIGINT),
        # the one of its own with many workers
        (["scheduler", "--stages", "2"], 8, signal.SIGINT),
        (["train", "--network", "lenet-300-100"], 3, signal.SIGTERM),
        (["study"], 3, signal.SIGTERM),
        (["study"], 3, signal.SIGINT),
    ],
)
def test_a_bench_that_is_ended_leaves_nothing_behind(
    command: list[str],
    until: int,
    number: signal.Signals,
    tmp_path: Path,
    repository: Path,
) -> None:
    """Ended once its folder is there and `until` processes of it run."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(repository)}
    environment["PRUNECTL_LEASES"] = str(tmp_path / "leases")
    with subprocess.Popen(
        [sys.executable, "-m", "prunectl.cli", "bench", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 60
        family: list[int] = []
        while len(family) < until or not list(tmp_path.glob("prunectl-bench-*")):
            assert time.monotonic() < deadline, "it never got so far"
            family = alive(process.pid)
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
    assert not list(tmp_path.glob("prunectl-bench-*"))
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
