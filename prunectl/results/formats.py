"""Tables as text: CSV, JSON, Markdown and LaTeX; and as Parquet files.

CSV and JSON carry every digit for programs; Markdown and LaTeX are for people and round to six.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from prunectl.errors import PrunectlError
from prunectl.store.db.query import Result, write_parquet

DIGITS = 6
"""Significant digits of floats in Markdown and LaTeX."""


def to_csv(result: Result) -> str:
    """RFC 4180 with a header, lines ended by \\n; NULL is empty, lists and structures are JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows([_plain(value) for value in row] for row in result.rows)
    return out.getvalue()


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return json.dumps(value, default=_jsonable)
    return value.isoformat() if isinstance(value, datetime) else value


def to_json(result: Result) -> str:
    """A list with one object per row; not a number and infinities are null."""
    rows = [{name: _finite(value) for name, value in row.items()} for row in result.dicts()]
    return json.dumps(rows, default=_jsonable, ensure_ascii=False, indent=1) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value


def _jsonable(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def to_markdown(result: Result) -> str:
    """A GitHub table; columns of numbers are aligned right."""
    heads = [_escaped(name, "|") for name in result.columns]
    rules = ["---:" if number else "---" for number in numeric(result)]
    lines = [heads, rules, *([_escaped(shown(v), "|") for v in row] for row in result.rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(result: Result) -> str:
    """A tabular of the package booktabs."""
    align = "".join("r" if number else "l" for number in numeric(result))
    heads = " & ".join(latex(name) for name in result.columns)
    lines = [" & ".join(latex(shown(value)) for value in row) + r" \\" for row in result.rows]
    return "\n".join(
        [rf"\begin{{tabular}}{{{align}}}", r"\toprule", heads + r" \\", r"\midrule", *lines,
         r"\bottomrule", r"\end{tabular}", ""]
    )  # fmt: skip


def shown(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return str(_plain(value))


def _escaped(text: str, characters: str) -> str:
    for character in characters:
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$",
    "×": r"$\times$", "≥": r"$\ge$", "≈": r"$\approx$", "★": r"$\star$", "Δ": r"$\Delta$", "·": r"$\cdot$",
}  # fmt: skip


def latex(text: str) -> str:
    """Text with everything that LaTeX would read as a command escaped."""
    return "".join(_LATEX.get(character, character) for character in text.replace("\n", " "))


def numeric(result: Result) -> list[bool]:
    """Which columns hold numbers."""
    numbers = ("INT", "DOUBLE", "FLOAT", "DECIMAL", "HUGEINT", "NUMBER")
    return [any(word in kind.upper() for word in numbers) for kind in result.types]


FORMATS: dict[str, Callable[[Result], str]] = {
    "csv": to_csv,
    "json": to_json,
    "md": to_markdown,
    "latex": to_latex,
}
"""Text formats by name; `parquet` is a file and goes through `save`."""


def render(result: Result, form: str) -> str:
    """The table in one of `FORMATS`. Raises PrunectlError for another name."""
    if form not in FORMATS:
        raise PrunectlError(f"unknown format {form!r}; allowed: {', '.join(FORMATS)}")
    return FORMATS[form](result)


def save(result: Result, path: Path) -> None:
    """Write the table in the format that the file's suffix names: .csv .json .md .tex .parquet.

    Raises PrunectlError for another suffix, StoreError where the file cannot be written.
    """
    if path.suffix == ".parquet":
        write_parquet(result, path)
        return
    form = "latex" if path.suffix == ".tex" else path.suffix.removeprefix(".")
    if form not in FORMATS:
        known = ", ".join([".csv", ".json", ".md", ".tex", ".parquet"])
        raise PrunectlError(f"unknown suffix {path.suffix!r} of {path.name}; allowed: {known}")
    from prunectl.store.files import write_text

    write_text(path, FORMATS[form](result))


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Result:
    """A table of texts, for the functions above; columns but the first are aligned as numbers."""
    kinds = tuple("VARCHAR" if i == 0 else "NUMBER" for i in range(len(columns)))
    return Result(tuple(columns), kinds, [tuple(row) for row in rows])
