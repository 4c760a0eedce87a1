"""The command as a user has it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

TINY = """\
# Which is best on a toy?
name = "tiny"
seeds = [0, 1]

[grid]
network = ["lenet-300-100"]
dataset = ["toy"]
strategy = ["fine-tune", "weight-rewind"]

[datasets.toy]
kind = "synthetic"
channels = 1
height = 8
width = 8
classes = 4
train = 256
test = 100

[recipe]
length = "4ep"
batch = 64
schedule = { kind = "step", lr = 0.05, milestones = ["2ep", "3ep"] }

[recipe.retrain]
fine-tune = "full"
weight-rewind = "3ep"
lr-rewind = "full"

[pruning]
schedule = { kind = "iterative", rate = 0.5, iterations = 2 }
"""


def prunectl(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    root = Path(__file__).parent.parent.parent
    return subprocess.run(
        [sys.executable, "-m", "prunectl.cli", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs the command in this process: a second less for each test that needs no process of its own."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> Done:
        from prunectl.cli.app import main

        if cwd is not None:
            monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["prunectl", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """The tiny plan in a file."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file
