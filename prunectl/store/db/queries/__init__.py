"""Recipes: questions in SQL with a name. Those in the package, and the user's own in the store's recipes folder.

The first line of a recipe is a comment that says what it answers; a line ``-- :name default`` is a parameter
that the SQL uses as ``$name``. Without a default it has to be given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from prunectl.errors import QueryError, StoreError, UnknownName
from prunectl.store.db import query
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths

_PARAMETER = re.compile(r"^--\s*:(\w+)[ \t]*(.*)$", re.M)


@dataclass(frozen=True)
class Recipe:
    """One question: its name, what it answers, its parameters with their defaults (None: required), its SQL."""

    name: str
    description: str
    parameters: Mapping[str, str | None]
    sql: str

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """The defaults with what was given. Raises QueryError for a parameter it lacks or does not have."""
        for name in given:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise QueryError(f"recipe {self.name} has no parameter {name!r}; it has: {known}")
        values = {**self.parameters, **given}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise QueryError(f"recipe {self.name} needs {', '.join(missing)}")
        return {name: value for name, value in values.items() if value is not None}


def parse(name: str, text: str) -> Recipe:
    """A recipe from its text."""
    first = text.splitlines()[0] if text else ""
    description = first.removeprefix("--").strip() if first.startswith("--") else ""
    parameters = {found[1]: found[2].strip() or None for found in _PARAMETER.finditer(text)}
    return Recipe(name, description, parameters, text)


def recipes(paths: StorePaths | None = None) -> dict[str, Recipe]:
    """All recipes by name; one of the store's replaces one of the package that has its name."""
    out = {}
    for file in (files("prunectl.store.db.queries")).iterdir():
        if file.name.endswith(".sql"):
            name = file.name.removesuffix(".sql")
            out[name] = parse(name, file.read_text(encoding="utf-8"))
    if paths is not None:
        for path in paths.queries.glob("*.sql"):
            try:
                out[path.stem] = parse(path.stem, path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise StoreError(f"cannot read {path}: {error}") from error
    return dict(sorted(out.items()))


def run_recipe(
    paths: StorePaths,
    name: str,
    parameters: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Result:
    """The answer to a recipe.

    Raises UnknownName for a name there is no recipe of, QueryError for its parameters or its SQL, StoreError as
    `query.run` does.
    """
    known = recipes(paths)
    if name not in known:
        raise UnknownName("recipe", name, known)
    return query.run(paths, known[name].sql, known[name].values(parameters or {}), limit)
