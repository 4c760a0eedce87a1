"""Line numbers of keys in TOML text, for errors: the parser does not keep them."""

from __future__ import annotations

import re
from collections import Counter

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


class LineNumbers:
    """The line of each key and table of a text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        counts: Counter[tuple[str, ...]] = Counter()
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _HEADER.match(line):
                table = _parts(header[2])
                self._lines.setdefault(table, number)
                if header[1] == "[[":  # one more of a list of tables
                    table = (*table, str(counts[table]))
                    counts[table[:-1]] += 1
                    self._lines[table] = number
            elif key := _KEY.match(line):
                self._lines.setdefault((*table, *_parts(key[1])), number)

    def line(self, key: str) -> int | None:
        """Find the 1-based line of a key such as ``grid.skip[0].network``, or of the nearest table around it."""
        path = _path(key)
        lines = (self._lines.get(path[:end]) for end in range(len(path), 0, -1))
        return next((line for line in lines if line is not None), None)

    def has(self, key: str) -> bool:
        """Check whether the text has this very key or table."""
        return _path(key) in self._lines


def _path(key: str) -> tuple[str, ...]:
    return tuple(key.replace("[", ".").replace("]", "").split("."))
