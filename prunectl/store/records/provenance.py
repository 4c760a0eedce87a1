"""Which versions of the code computed stages: mixing them in one study may mix numbers that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import metadata

from prunectl.errors import StoreError
from prunectl.store.files import read_json
from prunectl.store.journal import read
from prunectl.store.paths import StorePaths
from prunectl.version import __version__

Origin = tuple[str, str]
"""Versions of prunectl and torch, builds (+cu130) left out."""


def here() -> Origin:
    """What would compute stages now; without importing torch."""
    return _origin({"prunectl": __version__, "torch": metadata.version("torch")})


def origins(paths: StorePaths, keys: Iterable[str]) -> tuple[Counter[Origin], Counter[Origin]]:
    """How many of these stages were computed by which versions: those that are done, and those begun and not done
    (by their last attempt that got so far as to leave a checkpoint)."""
    done: Counter[Origin] = Counter()
    begun: Counter[Origin] = Counter()
    for key in keys:
        files = paths.stage(key)
        try:
            if files.result.exists():
                done[_origin(read_json(files.result).get("versions") or {})] += 1
            elif files.latest.exists():
                starts = [each for each in read(files.events)[0] if each["type"] == "start"]
                begun[_origin(starts[-1].get("versions") or {})] += 1
        except (OSError, StoreError, IndexError, AttributeError):
            continue  # `store verify` tells
    return done, begun


def mixture(paths: StorePaths, keys: Iterable[str]) -> list[str]:
    """What running these stages now would mix, a sentence each."""
    now = here()
    done, begun = origins(paths, keys)
    said = []
    for counts, what in ((done, "computed"), (begun, "begun")):
        for origin, count in sorted(counts.items()):
            if origin != now:
                stages = f"{count} stage{'s were' if count > 1 else ' was'}"
                said.append(
                    f"{stages} {what} by {_words(origin)}; this is {_words(now)}: "
                    "the same code on one device gives the same bits, other versions may not"
                )
    return said


def _origin(versions: Mapping[str, object]) -> Origin:
    return str(versions.get("prunectl", "?")), str(versions.get("torch", "?")).split("+")[0]


def _words(origin: Origin) -> str:
    return f"prunectl {origin[0]} with torch {origin[1]}"
