"""Reading plans and recipes: TOML in, checked models out, every mistake with its place."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import tomli
from pydantic import BaseModel, ValidationError

from prunectl.errors import PlanError, UnknownName
from prunectl.plan.line_numbers import Locator
from prunectl.plan.schema import PlanFile, Recipe
from prunectl.plan.validation_errors import explain

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class LoadedPlan:
    """A plan as it was read, with what is needed to explain later mistakes in it."""

    file: str
    text: str
    overrides: tuple[str, ...]
    data: dict[str, Any]
    content: PlanFile
    locator: Locator

    @property
    def question(self) -> str:
        """The first comment line: what the plan asks."""
        first = self.text.lstrip().split("\n", 1)[0]
        return first.lstrip("# ").strip() if first.startswith("#") else ""

    def fail(
        self,
        message: str,
        key: str,
        *,
        found: object = None,
        allowed: Sequence[str] = (),
        suggestion: str | None = None,
    ) -> PlanError:
        """An error about this plan's `key`, with file and line."""
        return PlanError(
            message,
            file=self.file,
            line=self.line(key),
            key=key,
            found=found,
            allowed=allowed,
            suggestion=suggestion,
        )

    def unknown(self, error: UnknownName, key: str) -> PlanError:
        """An error about a name that no registry holds."""
        return self.fail(f"unknown {error.kind}", key, found=error.found, allowed=error.allowed)

    def line(self, key: str) -> int | None:
        """Where the key stands; a recipe's or pruning's key may stand in the grid as an axis."""
        path = key.replace("[", ".").replace("]", "").split(".")
        if path[0] in ("recipe", "pruning") and not self.locator.has(path):
            in_grid = ["grid", *path]
            if self.locator.has(in_grid):
                return self.locator.line(in_grid)
        return self.locator.line(path)


def load(file: Path, overrides: Sequence[str] = ()) -> LoadedPlan:
    """Read a plan, apply `--set key=value` pairs, check it.

    Raises PlanError for a file that is missing or not TOML, and for whatever the schema rejects.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PlanError("no such plan file", file=str(file)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the plan: {error}", file=str(file)) from None
    return loads(text, str(file), overrides)


def loads(text: str, file: str = "<plan>", overrides: Sequence[str] = ()) -> LoadedPlan:
    """As `load`, from text."""
    data = _parse(text, file)
    for override in overrides:
        _apply(data, override)
    locator = Locator(text)
    content = check(PlanFile, data, ())
    if isinstance(content, PlanError):
        path = (content.key or "").replace("[", ".").replace("]", "").split(".")
        raise content.at(file, locator.line(path))
    return LoadedPlan(file, text, tuple(overrides), data, content, locator)


def check(model: type[Model], data: Any, prefix: tuple[str | int, ...]) -> Model | PlanError:
    """The data as a model, or the error that says why not, without file and line."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        return explain(error, model, data, prefix)


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise PlanError(f"not valid TOML: {error.msg}", file=file, line=error.lineno) from None


def _apply(data: dict[str, Any], override: str) -> None:
    """Set a dotted key to a TOML value; a word that is no TOML value is taken as a string."""
    key, equals, value = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise PlanError("--set needs key=value", found=override)
    try:
        parsed = tomli.loads(f"value = {value}")["value"]
    except tomli.TOMLDecodeError:
        parsed = value.strip()
    table = data
    *parents, last = key.split(".")
    for part in parents:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise PlanError(f"--set {override}: {part} is not a table", key=key)
    table[last] = parsed


def recipe_names() -> list[str]:
    """Names of the recipes that prunectl ships."""
    folder = resources.files("prunectl.plan").joinpath("recipes")
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def recipe_data(name: str) -> dict[str, Any]:
    """A shipped recipe's keys, those of the recipe it is a variant of (its `base`) included.

    Raises UnknownName.
    """
    if name not in recipe_names():
        raise UnknownName("recipe", name, recipe_names())
    file = resources.files("prunectl.plan").joinpath("recipes", f"{name}.toml")
    data = tomli.loads(file.read_text(encoding="utf-8"))
    base = data.pop("base", None)
    return data if base is None else merged(recipe_data(base), data)


def recipe(name: str) -> Recipe:
    """A shipped recipe, checked.

    Raises UnknownName, and PlanError where the shipped file is wrong.
    """
    found = check(Recipe, recipe_data(name), ("recipe",))
    if isinstance(found, PlanError):
        raise found.at(f"{name}.toml", None)
    return found


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`; tables are merged, a table with another `kind` replaces."""
    out = copy.deepcopy(base)
    for name, value in over.items():
        inner = out.get(name)
        same_kind = (
            isinstance(inner, dict)
            and isinstance(value, dict)
            and value.get("kind", inner.get("kind")) == inner.get("kind")
        )
        out[name] = merged(inner, value) if same_kind and isinstance(inner, dict) else value
    return out
