"""A run of more than a day on the CPU alone is asked about first; devices that are not there are explained."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunectl.cli.support import cpu_estimate
from prunectl.cli.support.cpu_estimate import long_run
from prunectl.cli.support.planning import read_plans
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.devices.driver import Driver, ShownDevice
from prunectl.scheduler.devices.missing_cuda import explain
from prunectl.scheduler.devices.torch_build import TorchBuild, torch_build
from tests.cli.conftest import TINY, Done
from tests.support.command import ROOT

Here = Callable[..., Done]
CPU = Device("cpu", "cpu", "a cpu", 2)


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Stages of 1.6 thousand million steps, which no CPU does in a day."""
    file = tmp_path / "endless.toml"
    file.write_text(TINY.replace('length = "4ep"', 'length = "400000000ep"'))
    return file


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The child processes that time steps."""
    started: list[Any] = []
    real = cpu_estimate.subprocess.run

    def counted(*arguments: Any, **options: Any) -> Any:
        started.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(cpu_estimate.subprocess, "run", counted)
    return started


def estimate(plan: Path, data: Path) -> cpu_estimate.CpuEstimate | None:
    [expansion] = read_plans([plan], [])
    paths = [trial.path for trial in expansion.trials]
    return long_run(expansion.stages, paths, CPU, data)


def test_a_plan_that_is_plainly_short_costs_no_timing(tmp_path: Path, timed: list[Any]) -> None:
    assert estimate(ROOT / "plans/quickstart.toml", tmp_path) is None
    assert timed == []


def test_a_long_one_is_timed_once(endless: Path, tmp_path: Path, timed: list[Any]) -> None:
    first = estimate(endless, tmp_path)
    assert first is not None
    assert len(timed) == 1
    assert estimate(endless, tmp_path) == first
    assert len(timed) == 1, "it is remembered"
    [(workload, step)] = first.steps.items()
    assert workload[:2] == ("lenet-300-100", "synthetic")
    [expansion] = read_plans([endless], [])
    steps = {key: stage.steps for key, stage in expansion.stages.items()}
    chain = max(sum(steps[key] for key in trial.path) for trial in expansion.trials)
    least = max(chain, sum(steps.values()) / CPU.slots) * step
    assert least <= first.seconds < 20 * least, (
        "the steps, and evaluations of 100 images every four"
    )
    assert not first.at_least


def test_steps_that_are_not_over_in_time_are_a_lower_bound(
    endless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_estimate, "TIMING_SECONDS", 0.5)
    hangs = "import time; print(time.time() - 1000, flush=True); time.sleep(60)"
    monkeypatch.setattr(cpu_estimate, "COMMAND", (sys.executable, "-c", hangs))
    found = estimate(endless, tmp_path)
    assert found is not None
    assert found.at_least
    assert [step for step in found.steps.values() if not 500 < step < 510] == []
    assert "more than" in found.text


def test_data_that_are_not_read_in_time_say_nothing_of_a_step(
    endless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_estimate, "TIMING_SECONDS", 0.5)
    reads = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(cpu_estimate, "COMMAND", reads)
    assert estimate(endless, tmp_path) is None


def test_what_cannot_be_timed_is_not_asked_about(
    endless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_estimate, "COMMAND", (sys.executable, "-c", "raise SystemExit(1)"))
    assert estimate(endless, tmp_path) is None


def test_a_script_is_refused_before_anything_is_queued(
    here: Here, endless: Path, tmp_path: Path
) -> None:
    done = here("run", endless, "--plain", "--devices", "cpu", "--store", tmp_path / "store")
    assert done.returncode == 2
    assert "by estimate" in done.stderr
    assert "--yes" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()


def test_at_a_terminal_no_is_an_answer(
    here: Here, endless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunectl.cli.support.cpu_estimate.on_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    done = here("run", endless, "--plain", "--devices", "cpu", "--store", tmp_path / "store")
    assert done.returncode == 2
    assert "start it all the same?" in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("answer", ["--yes", "y\n"])
def test_yes_starts_it(
    here: Here, endless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    started: list[object] = []
    monkeypatch.setattr("prunectl.cli.run._start", lambda *a, **o: started.append(a))
    monkeypatch.setattr("prunectl.cli.support.cpu_estimate.on_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    options = [answer] if answer.startswith("--") else []
    here("run", endless, "--plain", "--devices", "cpu", *options, "--store", tmp_path / "store")
    assert len(started) == 1


# devices that are not there


def test_a_device_there_is_not_is_explained(
    here: Here, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = here("run", plan, "--plain", "--devices", "cuda:0", "--store", tmp_path / "store")
    assert done.returncode == 2
    assert "unknown device 'cuda:0'; allowed: all, cpu\n" in done.stderr
    for fact in ("driver", "CUDA_VISIBLE_DEVICES is ''", "torch 2", "to do: "):
        assert fact in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "visible", "noted"),
    [([], None, True), ([], "7", True), ([], "", False), (["--devices", "cpu"], None, False)],
)
def test_a_card_that_is_not_used_is_told_of(
    here: Here,
    plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    visible: str | None,
    noted: bool,
) -> None:
    """A driver in trouble must not let a run begin on the CPU without a word."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("prunectl.scheduler.devices.cuda.CudaLayer.driver", REFUSES)
    monkeypatch.setattr("prunectl.cli.support.devices.nvidia_cards", lambda: ["0000:01:00.0"])
    monkeypatch.setattr("prunectl.cli.run._start", lambda *a, **o: None)
    done = here("run", plan, "--plain", *options, "--store", tmp_path / "store")
    assert ("note: there is an NVIDIA card" in done.stderr) == noted
    assert ("CUDA_ERROR_NO_DEVICE" in done.stderr) == noted


CUDA, PLAIN = TorchBuild("2.14.1+cu130", "13.0"), TorchBuild("2.14.1+cpu", None)
TWO = Driver((ShownDevice("00" * 16, "", 1), ShownDevice("11" * 16, "", 1)))
ABSENT = Driver(trouble="the driver's library was not found (…)", loaded=False)
REFUSES = Driver(trouble="cuInit of the driver failed: CUDA_ERROR_NO_DEVICE (100)")


@pytest.mark.parametrize(
    ("driver", "visible", "torch", "says"),
    [
        (ABSENT, None, CUDA, ["was not found", "is not set", "for CUDA 13.0", "install NVIDIA's"]),
        (REFUSES, None, PLAIN, ["NO_DEVICE", "for the CPU alone", "`nvidia-smi` tells"]),
        (REFUSES, "7", CUDA, ["NO_DEVICE", "is '7'", "unset CUDA_VISIBLE_DEVICES"]),
        (TWO, None, CUDA, ["shows 2 CUDA devices", "use cuda:0 to cuda:1"]),
        (TWO, "0,1", None, ["torch is not installed", "or let CUDA_VISIBLE_DEVICES show more"]),
    ],
)
def test_what_was_looked_at(
    driver: Driver, visible: str | None, torch: TorchBuild | None, says: list[str]
) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    text = explain(driver, environment, torch)
    assert [part for part in says if part not in text] == []


def test_for_what_torch_was_built() -> None:
    import torch

    assert torch_build() == TorchBuild(str(torch.__version__), torch.version.cuda)


def test_a_torch_for_the_cpu_alone_is_noticed_before_a_run(
    here: Here, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Device("cuda:0", "cuda", "a gpu", 1, "GPU-0", 1 << 30)
    monkeypatch.setattr("prunectl.scheduler.devices.system.SystemLayer.devices", lambda _: [gpu])
    monkeypatch.setattr("prunectl.cli.support.devices.torch_build", lambda: PLAIN)
    done = here("run", plan, "--plain", "--store", tmp_path / "store")
    assert done.returncode == 2
    assert "torch 2.14.1+cpu is built for the CPU alone" in done.stderr
    assert "--devices cpu" in done.stderr
    assert not os.path.exists(tmp_path / "store")
