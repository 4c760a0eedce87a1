"""What `prunectl bench` measures with, tried at the smallest size: structure and equal work, never speed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from prunectl.bench import compare, contenders, scheduling, train, work
from prunectl.bench.compare import Contender, compared, interval
from prunectl.cli.app import app

TINY = work.quick(work.LENET)


def test_ratios_have_an_interval_and_ones_have_none() -> None:
    assert interval([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)
    mean, low, high = interval([2.0, 8.0])
    assert mean == pytest.approx(4.0)
    assert low < 4.0 < high
    assert math.isnan(interval([2.0])[1])
    row = compared("x", [2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (row.seconds, row.fastest, row.slowest) == (4.0, 2.0, 6.0)
    assert row.ratio == pytest.approx(2.0)
    assert json.loads(json.dumps(compared("x", [2.0], [1.0]).to_json()))["low"] is None


def test_work_travels_as_json() -> None:
    for each in (TINY, work.RESNET, *work.CIFAR.values()):
        assert work.from_json(json.loads(json.dumps(each.to_json()))) == each
    assert work.CIFAR["resnet-20"].steps == 391


@pytest.mark.parametrize("kind", ["bare", "trainer", "loader"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_everyone_does_the_same_steps(
    kind: str, precision: work.Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the batches that networks see while training: 16, 16 and 8 images."""
    seen = []
    forward = torch.nn.Linear.forward

    def counting(self: torch.nn.Linear, pixels: torch.Tensor) -> torch.Tensor:
        if self.in_features == 784 and torch.is_grad_enabled():
            seen.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(torch.nn.Linear, "forward", counting)
    options: dict[str, Any] = {"workers": 0, "lanes": 2}
    contenders.CONTENDERS[kind](replace(TINY, precision=precision), options)()
    assert (
        seen == [16, 16, 8] * (2 if kind == "trainer" else 1) or sorted(seen) == [8] * 2 + [16] * 4
    )


def test_a_round_of_prunectl_is_a_whole_pruned_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    run = contenders.run
    monkeypatch.setattr(
        contenders,
        "run",
        lambda key, paths, engines, control: (
            done.append(paths.stage(key)),
            run(key, paths, engines, control),
        )[1],
    )
    go = contenders.stage(TINY, {"folder": tmp_path})
    go()
    go()
    dense, *pruned = [json.loads(folder.result.read_text()) for folder in done]
    assert dense["iteration"] == 0
    assert len(pruned) == 2
    for result in pruned:
        assert result["kept"] == round(0.2 * result["prunable"])
        assert result["steps"] == 3


def test_tables_are_complete() -> None:
    assert [table[0].work.network for table in train.cpu_tables(False)] == [
        "lenet-300-100",
        "resnet-20",
    ]
    cuda = train.cuda_tables(False, "cuda", ["resnet-20"])[0]
    assert [each.label[:2].strip() for each in cuda] == ["B", "", "D", "E", "E'", "F", *"GGG"]
    assert {each.work.device for each in cuda} == {"cuda"}


def test_lanes_are_doubled_while_it_pays() -> None:
    def rows(*seconds: float) -> dict[str, Any]:
        lanes = (1, 2, 4, 8)
        return {
            "measured": [
                {"seconds": 9.0, "lanes": 1, "options": {}},
                *(
                    {"seconds": s, "lanes": n, "options": {"fuse": True}}
                    for s, n in zip(seconds, lanes, strict=False)
                ),
            ]
        }

    assert train.worth(rows(1.0, 0.6, 0.4, 0.39)) == 4
    assert train.worth(rows(1.0, 0.99, 0.2)) == 1
    assert train.worth(rows(1.0, 0.6, 0.4, 0.3)) == 8


def test_a_contender_that_fails_says_why() -> None:
    bad = Contender("broken", "bare", replace(TINY, network="no-such-network"))
    with pytest.raises(compare.BenchError, match=r"broken failed: .*no-such-network"):
        compare.measure([bad], 1, lambda text: None)


@pytest.mark.slow
def test_bench_train_from_the_command_line() -> None:
    arguments = ["bench", "train", "--quick", "--network", "lenet-300-100", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    record = json.loads(result.stdout)
    measured = record["results"][0]["measured"]
    assert [row["label"] for row in measured][:2] == ["prunectl stage", "bare loop"]
    assert all(row["seconds"] > 0 and row["rounds"] == 1 for row in measured)
    assert {"cpu", "cores", "torch", "python"} <= record["machine"].keys()


@pytest.mark.slow
def test_bench_tui_watches_a_store_on_disk() -> None:
    result = CliRunner().invoke(app, ["bench", "tui", "--quick", "--json"], catch_exceptions=False)
    figures = json.loads(result.stdout)["results"][0]["figures"]
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
    result = scheduling.run(3, True, lambda text: None)
    assert [row["gaps"] for row in result["gaps"]] == [2, 2]
    assert all(row["seconds"] > 0 for row in result["gaps"])


@pytest.mark.slow
def test_bench_study_runs_both_to_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNECTL_LEASES", str(tmp_path))
    result = CliRunner().invoke(app, ["bench", "study", "--quick"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "prunectl run" in result.stdout
    assert "DataLoader script" in result.stdout
