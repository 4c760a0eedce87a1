"""Rules of captured training, broken on purpose: edits of one or two functions' source, in place while a test runs."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

import pytest


@dataclass(frozen=True)
class Edit:
    """Text in a function of `prunectl.ml` to replace, everywhere in it."""

    function: str
    """``training.masking:Masking.set``."""
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """A rule, how it is broken, and the check that finds it."""

    rule: str
    check: Callable[[], None]
    edits: tuple[Edit, ...]
    error: type[Exception] = AssertionError
    """What the check raises, where torch finds it before the check does."""


def broken(
    rule: str, check: Callable[[], None], *edits: str, error: type[Exception] = AssertionError
) -> Mutation:
    """Return a mutation by edits given as function, old text, new text, and so on."""
    threes = zip(edits[::3], edits[1::3], edits[2::3], strict=True)
    return Mutation(rule, check, tuple(Edit(*each) for each in threes), error)


def apply(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a mutation's edits into place.

    Code is replaced, not the function, so that it holds for whoever has imported it. Raises AssertionError where the
    source no longer has the text.
    """
    by_function: dict[str, list[Edit]] = {}
    for edit in mutation.edits:
        by_function.setdefault(edit.function, []).append(edit)
    for name, edits in by_function.items():
        function = _function(name)
        source = textwrap.dedent(inspect.getsource(function))
        for edit in edits:
            assert edit.old in source, f"{name} has no {edit.old!r} any more: mend the mutation"
            source = source.replace(edit.old, edit.new)
        monkeypatch.setattr(function, "__code__", _code(source, function))


def _function(name: str) -> FunctionType:
    module, _, path = name.partition(":")
    found: Any = import_module(f"prunectl.ml.{module}")
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    if isinstance(found, property):
        found = found.fget
    return inspect.unwrap(found)  # type: ignore[return-value]


def _code(source: str, function: FunctionType) -> CodeType:
    compiled = compile(source, f"<{function.__qualname__}, broken>", "exec")
    (code,) = (
        each
        for each in compiled.co_consts
        if isinstance(each, CodeType) and each.co_name == function.__name__
    )
    assert code.co_freevars == function.__code__.co_freevars
    return code
