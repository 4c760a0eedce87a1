"""Declarative experiments in neural network pruning: plan, train, prune, retrain, compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunectl.version import __version__ as __version__

if TYPE_CHECKING:
    from prunectl.api import open as open  # noqa: A004 - prunectl.open


def __getattr__(name: str) -> Any:
    # PEP 562: whoever only needs the version, such as a worker, loads neither DuckDB nor anything of ours. By its
    # name and not by an import statement, because what is imported here every room of the package would know.
    if name == "open":
        from importlib import import_module

        return import_module("prunectl.api").open
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
