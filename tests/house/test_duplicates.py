"""No private copies: what two modules need is written once, where both may import it."""

from __future__ import annotations

import ast
import functools
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

LINES = 5
"""A run of statements of so many lines, without comments and docstrings, may stand in one module only."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def copies(modules: dict[str, str]) -> list[str]:
    """Return runs of statements that functions of several modules share, whatever their variables are called."""
    alike: dict[str, list[tuple[str, list[ast.stmt], set[str]]]] = defaultdict(list)
    for module, text in modules.items():
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, Function):
                own = own_names(function)
                for run in runs(function):
                    alike[" ".join(map(outline, run))].append((module, run, own))
    places: dict[str, dict[str, int]] = defaultdict(dict)
    for found in alike.values():
        if len({module for module, _, _ in found}) > 1:
            for module, run, own in found:
                places[shape(run, own)].setdefault(module, run[0].lineno)
    return [
        " = ".join(f"{module}:{line}" for module, line in found.items())
        for found in places.values()
        if len(found) > 1
    ]


@functools.cache
def outline(statement: ast.stmt) -> str:
    """Return the kinds of the statement's nodes: what has another outline is no copy, and few have the same."""
    return " ".join(type(node).__name__ for node in ast.walk(statement))


def own_names(function: Function) -> set[str]:
    """Return the names of the function's arguments and variables."""
    nodes = list(ast.walk(function))
    names = (n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return {n.arg for n in nodes if isinstance(n, ast.arg)} | set(names)


def runs(function: Function) -> Iterator[list[ast.stmt]]:
    """Yield, from each statement on, the shortest run of statements that is long enough: longer ones begin with it."""
    for block in blocks(function):
        code = [each for each in block if not is_text(each)]
        for start in range(len(code)):
            lines: set[int] = set()
            for end in range(start, len(code)):
                lines |= code_lines(code[end])
                if len(lines) >= LINES:
                    yield code[start : end + 1]
                    break


def blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the statements under a node, a list for each place where they stand."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(node, name, None)
        if isinstance(inner, list) and inner:
            if isinstance(inner[0], ast.stmt):
                yield inner
            for each in inner:
                yield from blocks(each)


def is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


@functools.cache
def code_lines(statement: ast.stmt) -> set[int]:
    return {node.lineno for node in ast.walk(statement) if hasattr(node, "lineno")}


def shape(run: list[ast.stmt], own: set[str]) -> str:
    """Return the statements as text in which the function's own names are numbered in the order they come."""
    numbers: dict[str, str] = {}
    parts = []
    for statement in run:
        for node in ast.walk(statement):
            parts.append(type(node).__name__)
            for name, value in ast.iter_fields(node):
                if isinstance(value, ast.AST | list):
                    parts.append(f"{name}{len(value) if isinstance(value, list) else ''}")
                elif value in own and name in ("id", "arg"):
                    parts.append(numbers.setdefault(value, f"#{len(numbers)}"))
                else:
                    parts.append(repr(value))
    return " ".join(parts)


@pytest.mark.parametrize("folder", ["prunectl", "tests"])
def test_no_two_modules_have_the_same_code(repository: Path, folder: str) -> None:
    modules = {
        str(path.relative_to(repository)): path.read_text(encoding="utf-8")
        for path in sorted((repository / folder).rglob("*.py"))
    }
    assert len(modules) > 50
    assert copies(modules) == []


def test_a_copy_is_found_under_other_names() -> None:
    first = '''
        def wait(lock, deadline):
            """Wait."""
            while True:
                try:
                    return lock.take()
                except OSError:
                    if now() > deadline:
                        raise
                    sleep(0.05)
    '''
    second = first.replace("lock", "file").replace('"""Wait."""', "# A comment.\n")
    another = first.replace("0.05", "0.01")
    texts = {
        name: textwrap.dedent(text)
        for name, text in {"a": first, "b": second, "c": another}.items()
    }
    # The run from the `try` on is a copy, too.
    assert copies(texts)
    assert all(found.startswith("a:") and " = b:" in found for found in copies(texts))
    assert not any("c:" in found for found in copies(texts))


@pytest.mark.parametrize("name", ["Stage", "Trial", "State", "Study", "Metric", "Seeds"])
def test_one_thing_has_one_type(repository: Path, name: str) -> None:
    defined = [
        path.relative_to(repository)
        for path in (repository / "prunectl").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    assert [path.parts[1] for path in defined] == ["spec"]
