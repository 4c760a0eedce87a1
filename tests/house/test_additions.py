"""README's "to add a network / criterion / data set / task / strategy / command" names exactly the files that change.

Each addition is made in a copy of the package, in the files README names for it and in no other, and a plan then runs
with all of them; `test_regression_task` runs one with the task.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.additions import ONE_HIDDEN, REGRESSION, Addition, Copy, copy

__all__ = ["copy"]

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
COLUMNS = """\
[columns]
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
"""
RESTART = '"restart": Strategy(weights_from="parent", lr_window="from-start", retrain="full"),'
ADDITIONS = {
    "network": ONE_HIDDEN,
    "criterion": Addition(
        "ml/criteria/registry.py",
        (('"random": ', '"smallest": "prunectl.ml.criteria.smallest:score",'),),
        "ml/criteria/NAME.py",
        "smallest",
        CRITERION,
    ),
    "data set": Addition(
        "ml/datasets/registry.toml",
        (("# UCI handwritten digits, 8×8, in the package", COLUMNS),),
        "ml/datasets/NAME.py",
        "columns",
        DATASET,
    ),
    "task": REGRESSION,
    "strategy": Addition("plan/strategies.py", (('"fine-tune": ', RESTART),)),
    "command": Addition(
        "cli/app.py", (('"status",', '"greet",'),), "cli/NAME.py", "greet", COMMAND
    ),
}
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


def said(repository: Path) -> dict[str, set[str]]:
    """README's table: what is added → files of the package."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    rows = text[text.index("| to add a |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {what: set(re.findall(r"`([\w/]+\.(?:py|toml))`", files)) for what, files in cells}


@pytest.mark.slow
def test_an_addition_touches_the_files_that_readme_names_and_no_other(
    repository: Path, copy: Copy
) -> None:
    assert {what: addition.touched for what, addition in ADDITIONS.items()} == said(repository)
    for addition in ADDITIONS.values():
        addition.make(copy.package)

    (copy.folder / "added.toml").write_text(PLAN, encoding="utf-8")
    copy.prunectl("run", "added.toml", "--plain", "--store", "here")
    query = "SELECT network, dataset, strategy, criterion, kept FROM iterations WHERE iteration = 1"
    answer = copy.prunectl("sql", query, "--store", "here", "--format", "csv").splitlines()[1]
    assert answer == "one-hidden,columns,restart,smallest,160"
    assert copy.prunectl("greet") == "hello\n"
