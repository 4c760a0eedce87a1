"""The command as a user has it: a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Done, here, prunectl

__all__ = ["TINY", "Done", "here", "plan", "prunectl"]

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


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """The tiny plan in a file."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file
