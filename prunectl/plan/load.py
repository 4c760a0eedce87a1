"""Reading plans and recipes: TOML in, checked models out, every mistake with its place."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomli
from pydantic import BaseModel, ValidationError

from prunectl.errors import PlanError, UnknownName
from prunectl.plan import shipped, toml_values
from prunectl.plan.line_numbers import LineNumbers
from prunectl.plan.schema import PlanFile
from prunectl.plan.validation_errors import plan_error

Model = TypeVar("Model", bound=BaseModel)
MOST_BYTES = 8_000_000
"""Of a plan's file: half a million seeds take 4 MB, and reading so many 1.3 s and 100 MB."""


@dataclass(frozen=True)
class LoadedPlan:
    """A plan as it was read, with what is needed to explain later mistakes in it."""

    file: str
    text: str
    overrides: tuple[str, ...]
    """`--set` pairs, applied before validation."""
    content: PlanFile
    line_numbers: LineNumbers

    @property
    def question(self) -> str:
        """The first comment line: what the plan asks."""
        first = self.text.lstrip().split("\n", 1)[0]
        return first.lstrip("# ").strip() if first.startswith("#") else ""

    def fail(self, message: str, key: str, **details: Any) -> PlanError:
        """Make an error about this plan's `key`, with file and line; `details` are arguments of PlanError."""
        return PlanError(message, file=self.file, line=self.line(key), key=key, **details)

    @contextlib.contextmanager
    def naming(self, key: str) -> Iterator[None]:
        """Turn an UnknownName raised inside into an error about `key`, which holds the name."""
        try:
            yield
        except UnknownName as error:
            message = f"unknown {error.kind}"
            raise self.fail(message, key, found=error.found, allowed=error.allowed) from None

    def validated(self, model: type[Model], table: dict[str, Any], key: str) -> Model:
        """Read the plan's table `key`, with a grid point's values in it, as a model.

        Raises PlanError with file and line.
        """
        try:
            return validate(model, table, (key,))
        except PlanError as error:
            raise error.at(self.file, self.line(error.key or key)) from None

    def has(self, key: str) -> bool:
        """Check whether a key of the recipe or of pruning stands in the file, in the grid as an axis too."""
        return self.line_numbers.has(key) or self.line_numbers.has(f"grid.{key}")

    def line(self, key: str) -> int | None:
        """Find the line of a key; a recipe's or pruning's key may stand in the grid as an axis."""
        lines, in_grid = self.line_numbers, f"grid.{key}"
        if key.startswith(("recipe", "pruning")) and not lines.has(key) and lines.has(in_grid):
            return lines.line(in_grid)
        return lines.line(key)


def load(file: Path, overrides: Sequence[str] = ()) -> LoadedPlan:
    """Read a plan, apply `--set key=value` pairs, check it.

    Raises PlanError for a file that is missing, too large or not TOML, and for what the schema rejects.
    """
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise PlanError(
                "too large for a plan: take fewer seeds or values, or split it",
                file=str(file),
                found=f"{size:,} bytes",
                allowed=[f"at most {MOST_BYTES:,} bytes"],
                suggestion="",
            )
        # Editors on Windows begin files with a byte order mark.
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PlanError("no such plan file", file=str(file)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the plan: {error}", file=str(file)) from None
    return loads(text, str(file), overrides)


def loads(text: str, file: str = "<plan>", overrides: Sequence[str] = ()) -> LoadedPlan:
    """Do what `load` does with a plan's text; `file` is for its errors."""
    try:
        data = toml_values.parse(text)
    except tomli.TOMLDecodeError as error:
        raise PlanError(f"not valid TOML: {error.msg}", file=file, line=error.lineno) from None
    except PlanError as error:
        raise error.at(file, None) from None
    for override in overrides:
        _apply(data, override)
    line_numbers = LineNumbers(text)
    try:
        toml_values.check(data)
        content = validate(PlanFile, data, ())
    except PlanError as error:
        raise error.at(file, line_numbers.line(error.key or "")) from None
    return LoadedPlan(file, text, tuple(overrides), content, line_numbers)


def validate(model: type[Model], data: Any, prefix: tuple[str | int, ...]) -> Model:
    """Read the data as a model. Raises PlanError without file and line, its key beginning with `prefix`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise plan_error(error, model, data, prefix) from None


def _apply(data: dict[str, Any], override: str) -> None:
    """Set a dotted key to a TOML value; a word that is no TOML value is taken as a string."""
    key, equals, value = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise PlanError("--set needs key=value", found=override)
    try:
        parsed = toml_values.parse(f"value = {value}")["value"]
    except tomli.TOMLDecodeError:  # a shell takes quotes away: name=wrn comes without
        parsed = value.strip()
    table = data
    *parents, last = key.split(".")
    for part in parents:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise PlanError(f"--set {override}: {part} is not a table", key=key)
    table[last] = parsed


def recipe_data(name: str) -> dict[str, Any]:
    """Read a shipped recipe's keys, those of the recipe it is a variant of (its `base`) included.

    Raises UnknownName.
    """
    data = shipped.read("recipes", name, "recipe")
    base = data.pop("base", None)
    return data if base is None else merged(recipe_data(base), data)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Copy `base` with the keys of `over`; tables are merged, but a table of another `kind` replaces."""
    out = copy.deepcopy(base)
    for name, value in over.items():
        inner = out.get(name)
        # A schedule of another kind has other keys: those of the base would be rejected beside them.
        if (
            isinstance(inner, dict)
            and isinstance(value, dict)
            and value.get("kind", inner.get("kind")) == inner.get("kind")
        ):
            value = merged(inner, value)
        out[name] = value
    return out
