"""Where a name becomes an object: registries hold references as text, and this module imports what they name.

So registries can be read in milliseconds, without torch: only `resolve` imports what a reference needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from prunectl.errors import UnknownName

Entry = TypeVar("Entry")


def resolve(reference: str) -> Any:
    """Import what a reference names: ``package.module:attribute``, or ``package.module`` for the module itself.

    Raises ImportError or AttributeError where it is not there.
    """
    module, _, attribute = reference.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def lookup(kind: str, name: str, entries: Mapping[str, Entry]) -> Entry:
    """Return a registry's entry of that name. Raises UnknownName, with `kind` in its message."""
    if name not in entries:
        raise UnknownName(kind, name, entries)
    return entries[name]
