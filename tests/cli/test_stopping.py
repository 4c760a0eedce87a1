"""Ctrl-C, a closed terminal, a full disk, a store that cannot be written: the real command, and how it goes on."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.verify import verify
from tests.cli.conftest import TINY, begin
from tests.support.records import events as read

ROOT = Path(__file__).parents[2]
LONG = TINY.replace('"4ep"', '"4000ep"').replace("seeds = [0, 1]", "seeds = [0]")


def begin_run(plan: Path, store: Path) -> subprocess.Popen[str]:
    """The run in the background."""
    return begin("run", plan, "--store", store, "--plain", "--devices", "cpu")


def stages(store: Path) -> list[StagePaths]:
    return [StagePaths(folder) for folder in StorePaths(store).stages.glob("*")]


def epochs(store: Path) -> int:
    """Evaluations logged so far, by all attempts."""
    return sum(
        record["type"] == "epoch" for stage in stages(store) for record in read(stage.events)
    )


def eventually(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A plan whose dense network takes minutes."""
    file = tmp_path / "long.toml"
    file.write_text(LONG)
    return file


def left(store: Path) -> list[int]:
    """Processes that name the store."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if str(store) in words:
                found.append(int(folder.name))
    return found


def test_ctrl_c_finishes_the_epoch_and_the_same_command_goes_on(long: Path, tmp_path: Path) -> None:
    """Once with Ctrl-C, then on to a second stop by two signals, which takes no time for an epoch."""
    store = tmp_path / "store"
    process = begin_run(long, store)
    eventually(lambda: epochs(store) > 3, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on: prunectl run" in said
    (stage,) = stages(store)
    records = read(stage.events)
    assert records[-1]["type"] == "interrupted"
    assert records[-1]["step"] == records[-3]["step"] > 0, "at the end of an epoch"
    assert not left(store)
    done = epochs(store)

    process = begin_run(long, store)
    eventually(lambda: epochs(store) > done + 3, process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not left(store)
    start = [record for record in read(stage.events) if record["type"] == "start"][1]
    assert start["resumed"]
    assert start["step"] == records[-1]["step"]
    assert not verify(StorePaths(store)).problems


def test_a_closed_terminal_stops_it_as_ctrl_c_does(long: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(ROOT)
        words = ["run", str(long), "--store", str(store), "--plain", "--devices", "cpu"]
        os.execv(sys.executable, [sys.executable, "-m", "prunectl.cli", *words])
    deadline = time.monotonic() + 120
    while epochs(store) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    (stage,) = stages(store)
    assert read(stage.events)[-1]["type"] == "interrupted"
    assert not left(store)
