"""Outside the tasks themselves no code asks for a metric by its name: numbers are a task's score.

Looked at are names, attributes, arguments and texts of the package's Python, docstrings and comments left out; SQL and
TOML files have columns of classification for users to query.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "prunectl"

NAMED = re.compile(r"(?<![a-z])(?:accurac(?:y|ies)|top5)(?![a-z])", re.IGNORECASE)

ALLOWED = {
    "spec/task.py": "declares the metrics of the default task",
    "bench/baselines.py": "the loop that is measured beside ours: a classification without prunectl",
    "bench/plain_script.py": "the same, as a script",
    "cli/plot.py": "--kind accuracy is a spelling of score",
    "results/plots.py": "the same",
    "store/db/rows.py": "fills the columns of classification",
    "store/records/base.py": "reads records written before tasks had names",
    "bench/reporting_worker.py": "reports as if it classified",
    "scheduler/executors/simulated_chain.py": "the same",
}


def names(tree: ast.AST) -> Iterator[str]:
    """Yield the names and texts of some code, but for docstrings."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in said:
                yield text
            case (
                ast.Name(id=name)
                | ast.Attribute(attr=name)
                | ast.keyword(arg=str(name))
                | ast.arg(arg=name)
            ):
                yield name


def found(source: str) -> set[str]:
    """Return the names and texts of some code that name a metric."""
    return {text for text in names(ast.parse(source)) if NAMED.search(text)}


def naming() -> dict[str, set[str]]:
    """Find what names a metric, by file; the tasks left out."""
    out = {}
    for path in PACKAGE.rglob("*.py"):
        file = path.relative_to(PACKAGE).as_posix()
        texts = found(path.read_text(encoding="utf-8"))
        if texts and not file.startswith("ml/tasks/"):
            out[file] = texts
    return out


def test_no_code_names_a_metric_but_where_there_is_a_reason() -> None:
    others = naming()
    for file in ALLOWED:
        assert others.pop(file, None), f"{file} names no metric any more: take it off the list"
    assert others == {}


@pytest.mark.parametrize(
    "line",
    [
        'value = record["accuracy"]',
        "value = record.top5",
        'result.get("best_accuracy")',
        'sql = "SELECT seed, accuracy FROM points"',
        "make(accuracy=1.0)",
        'if metric.name == "accuracy": pass',
        "ACCURACIES = 14",
    ],
)
def test_it_is_seen(line: str) -> None:
    assert found(line)
    assert found(f'"""The accuracy."""\nvalue = 1  # {line}') == set()
