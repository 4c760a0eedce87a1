"""The TOML files that come with the package: a folder of recipes, a folder of sets of filter ratios."""

from __future__ import annotations

from importlib import resources
from typing import Any

import tomli

from prunectl.errors import UnknownName


def names(folder: str) -> list[str]:
    """List the files of a folder of this package, sorted, without their suffix."""
    files = (entry.name for entry in resources.files("prunectl.plan").joinpath(folder).iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def read(folder: str, name: str, kind: str) -> dict[str, Any]:
    """Read a file. Raises UnknownName, with what the folder holds, for a name it does not have."""
    if name not in names(folder):
        raise UnknownName(kind, name, names(folder))
    file = resources.files("prunectl.plan").joinpath(folder, f"{name}.toml")
    return tomli.loads(file.read_text(encoding="utf-8"))
