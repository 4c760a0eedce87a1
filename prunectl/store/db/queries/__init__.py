"""Queries with a name: those in the package, and the user's own in the store's folder `recipes`.

The first line of a query's file is a comment that says what it answers; a line ``-- :name default`` is a parameter
that the SQL uses as ``$name``. Without a default it has to be given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from prunectl.errors import QueryError, StoreError, UnknownName
from prunectl.store import files
from prunectl.store.db import query
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths

_PARAMETER = re.compile(r"^--\s*:(\w+)[ \t]*(.*)$", re.M)


@dataclass(frozen=True)
class Query:
    """One query: its name, what it answers, its parameters with their defaults (None: required), its SQL."""

    name: str
    description: str
    parameters: Mapping[str, str | None]
    sql: str

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the defaults, overridden by `given`. Raises QueryError for a missing or unknown parameter."""
        for name in given:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise QueryError(f"query {self.name} has no parameter {name!r}; it has: {known}")
        values = {**self.parameters, **given}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise QueryError(f"query {self.name} needs {', '.join(missing)}")
        return {name: value for name, value in values.items() if value is not None}


def parse(name: str, text: str) -> Query:
    """Read a query from the text of its file."""
    first = text.splitlines()[0] if text else ""
    description = first.removeprefix("--").strip() if first.startswith("--") else ""
    parameters = {found[1]: found[2].strip() or None for found in _PARAMETER.finditer(text)}
    return Query(name, description, parameters, text)


def queries(paths: StorePaths | None = None) -> dict[str, Query]:
    """Read all queries, by name; one of the store replaces one of the package with the same name."""
    out = {}
    for file in resources.files("prunectl.store.db.queries").iterdir():
        if file.name.endswith(".sql"):
            name = file.name.removesuffix(".sql")
            out[name] = parse(name, file.read_text(encoding="utf-8"))
    if paths is not None:
        for path in files.disk.glob(paths.queries, "*.sql"):
            try:
                out[path.stem] = parse(path.stem, files.disk.read(path).decode("utf-8-sig"))
            except (OSError, UnicodeDecodeError) as error:
                raise StoreError(f"cannot read {path}: {error}") from error
    return dict(sorted(out.items()))


def run_query(
    paths: StorePaths,
    name: str,
    parameters: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Result:
    """Run the query with this name.

    Raises UnknownName where there is none, QueryError for its parameters or its SQL, StoreError as `query.run`.
    """
    known = queries(paths)
    if name not in known:
        raise UnknownName("query", name, known)
    return query.run(paths, known[name].sql, known[name].values(parameters or {}), limit)
