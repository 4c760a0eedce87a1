"""README's "to add a network / criterion / data set / strategy / command" names exactly the files that have to change.

Each addition is made in a copy of the package, in the files README names for it and in no other, and a plan then runs
with all of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NETWORK = '''"""One hidden layer."""

import math

from torch import Tensor, nn

from prunectl.spec.settings import NetworkSettings


class OneHidden(nn.Module):
    """A dense layer of 16 units and a classifier."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.hidden = nn.Linear(math.prod(settings.shape), 16)
        self.classifier = nn.Linear(16, settings.classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.hidden(images.flatten(1)).relu())
        return logits
'''
CRITERION = '''"""Small weights matter: score -|w|."""

from prunectl.ml.criteria.magnitude import score as magnitude


def score(weights, generator):
    return {name: -scores for name, scores in magnitude(weights, generator).items()}
'''
DATASET = '''"""Columns of light: the class of an image is the column that is bright."""

import numpy as np

from prunectl.ml.datasets.arrays import Arrays


def read(find, options):
    labels = np.arange(200) % 4
    images = np.zeros((200, 4, 4, 1), np.uint8)
    images[np.arange(200), :, labels] = 200
    return Arrays(images[:160], labels[:160], images[160:], labels[160:])
'''
COMMAND = '''"""`greet`: say hello."""

import typer


def greet() -> None:
    """Say hello."""
    typer.echo("hello")
'''
LINES = {
    "network": (
        "ml/networks/registry.py",
        'Family("convnet",',
        'Family("one-hidden", "prunectl.ml.networks.one_hidden:OneHidden", ("one-hidden",)),',
    ),
    "criterion": (
        "ml/criteria/registry.py",
        '"random": ',
        '"smallest": "prunectl.ml.criteria.smallest:score",',
    ),
    "data set": (
        "ml/datasets/registry.toml",
        "# UCI handwritten digits, 8×8, in the package",
        """[columns]
module = "columns"
external = false
[columns.description]
shape = [1, 4, 4]
classes = 4
train = 160
test = 40
mean = [0.2]
std = [0.3]
fingerprint = "columns-1"
""",
    ),
    "strategy": (
        "plan/strategies.py",
        '"fine-tune": ',
        '"restart": Strategy(weights_from="parent", lr_window="from-start", retrain="full"),',
    ),
    "command": ("cli/app.py", '"status",', '"greet",'),
}
"""For each addition: the file that lists what there is, how a line of it begins, and what is put before that line."""
NEW = {
    "network": ("ml/networks/NAME.py", "one_hidden", NETWORK),
    "criterion": ("ml/criteria/NAME.py", "smallest", CRITERION),
    "data set": ("ml/datasets/NAME.py", "columns", DATASET),
    "command": ("cli/NAME.py", "greet", COMMAND),
}
"""For each addition that is a file: where, its NAME, its text."""
PLAN = """\
# Does everything that was added work together?
name = "added"
seeds = [0]

[grid]
network = ["one-hidden"]
dataset = ["columns"]
strategy = ["restart"]

[recipe]
length = "2ep"
batch = 32
schedule = { kind = "step", lr = 0.1, milestones = ["1ep"] }

[pruning]
criterion = "smallest"
schedule = { kind = "iterative", rate = 0.5, iterations = 1 }
"""


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """The package, copied to where it may be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "prunectl", tmp_path / "prunectl", ignore=ignored)
    return tmp_path


def said(repository: Path) -> dict[str, set[str]]:
    """README's table: what is added → files of the package."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    rows = text[text.index("| to add a |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {what: set(re.findall(r"`([\w/]+\.(?:py|toml))`", files)) for what, files in cells}


def add(package: Path, what: str) -> set[str]:
    """Make one addition. Returns the files that were made or changed, NAME for the new one's name."""
    touched = set()
    if what in NEW:
        pattern, name, text = NEW[what]
        (package / pattern.replace("NAME", name)).write_text(text, encoding="utf-8")
        touched.add(pattern)
    file, anchor, line = LINES[what]
    before = (package / file).read_text(encoding="utf-8").splitlines()
    found = [n for n, old in enumerate(before) if old.strip().startswith(anchor)]
    assert len(found) == 1, f"{file} has {len(found)} lines {anchor!r}"
    after = [*before[: found[0]], line, *before[found[0] :], ""]
    (package / file).write_text("\n".join(after), encoding="utf-8")
    return touched | {file}


@pytest.mark.slow
def test_an_addition_touches_the_files_that_readme_names_and_no_other(
    repository: Path, copy: Path
) -> None:
    table = said(repository)
    assert {what: add(copy / "prunectl", what) for what in LINES} == table

    (copy / "added.toml").write_text(PLAN, encoding="utf-8")

    def prunectl(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prunectl.cli", *arguments],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy), "PRUNECTL_LEASES": str(copy / "leases")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    prunectl("run", "added.toml", "--plain", "--store", "here")
    query = "SELECT network, dataset, strategy, criterion, kept FROM iterations WHERE iteration = 1"
    answer = prunectl("sql", query, "--store", "here", "--format", "csv").splitlines()[1]
    assert answer == "one-hidden,columns,restart,smallest,160"
    assert prunectl("greet") == "hello\n"
