"""From a query's result to text and files: CSV, JSON, Markdown, LaTeX and Parquet.

Every table of the command line and of the terminal UI is a `Result` and becomes text here. CSV and JSON carry every
digit for programs; Markdown and LaTeX are for people and round to six.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from prunectl.errors import PrunectlError
from prunectl.store.db.query import Result, write_parquet
from prunectl.store.files import write_text
from prunectl.text import finite, plural

DIGITS = 6
"""Significant digits of floats in Markdown, in LaTeX and on the terminal."""


def to_csv(result: Result) -> str:
    """Write RFC 4180 with a header and lines ended by \\n; NULL is empty, lists and structures are JSON."""
    out = io.StringIO()
    writer = csv.writer(
        out, lineterminator="\n"
    )  # RFC 4180 ends lines with \r\n, whose \r Unix tools show as text
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
    """Write a list with one object per row; not a number and infinities are null."""
    # JSON has no NaN, and Python's `json` would write the word.
    rows = [
        {k: finite(v) if isinstance(v, float) else v for k, v in row.items()}
        for row in result.dicts()
    ]
    return json.dumps(rows, default=_jsonable, ensure_ascii=False, indent=1) + "\n"


def _jsonable(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def to_markdown(result: Result) -> str:
    """Write a GitHub table; columns of numbers are aligned right."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |\n"

    def escaped(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ")

    head = line([escaped(name) for name in result.columns])
    rule = line(["---:" if number else "---" for number in numeric(result)])
    return head + rule + "".join(line([escaped(shown(v)) for v in row]) for row in result.rows)


def to_latex(result: Result) -> str:
    """Write a tabular of the package booktabs."""
    align = "".join("r" if number else "l" for number in numeric(result))
    heads = " & ".join(latex(name) for name in result.columns)
    lines = [" & ".join(latex(shown(value)) for value in row) + r" \\" for row in result.rows]
    return "\n".join(
        [rf"\begin{{tabular}}{{{align}}}", r"\toprule", heads + r" \\", r"\midrule", *lines,
         r"\bottomrule", r"\end{tabular}", ""]
    )  # fmt: skip


_LATEX = str.maketrans({
    "\n": " ",
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$",
    "×": r"$\times$", "≥": r"$\ge$", "≈": r"$\approx$", "★": r"$\star$", "Δ": r"$\Delta$", "·": r"$\cdot$",
})  # fmt: skip


def latex(text: str) -> str:
    """Escape everything that LaTeX would read as a command."""
    return text.translate(_LATEX)


def shown(value: Any) -> str:
    """Write a value as people read it: floats to `DIGITS`, times to the second, NULL as nothing."""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return str(_plain(value))


def numeric(result: Result) -> list[bool]:
    """Check of each column whether it holds numbers, by its DuckDB type."""
    numbers = ("INT", "DOUBLE", "FLOAT", "DECIMAL", "NUMBER")
    return [any(word in kind.upper() for word in numbers) for kind in result.types]


def row_count(result: Result) -> str:
    """``7 rows``, or ``500 of >500 rows`` where a limit left some out."""
    count = len(result.rows)
    return f"{count} of >{count} rows" if result.truncated else plural(count, "row")


FORMATS: dict[str, Callable[[Result], str]] = {
    "csv": to_csv,
    "json": to_json,
    "md": to_markdown,
    "latex": to_latex,
}
"""Text formats by name; `parquet` is for files alone."""

SUFFIXES = {".csv": "csv", ".json": "json", ".md": "md", ".tex": "latex", ".parquet": "parquet"}
"""Formats of files."""


def render(result: Result, form: str) -> str:
    """Write the table in one of `FORMATS`. Raises PrunectlError for another name."""
    if form not in FORMATS:
        raise PrunectlError(f"unknown format {form!r}; allowed: {', '.join(FORMATS)}")
    return FORMATS[form](result)


def write(result: Result, path: Path, form: str) -> None:
    """Write the table to a file, in one of `FORMATS` or as `parquet`.

    Raises PrunectlError for another format, StoreError where the file cannot be written.
    """
    if form == "parquet":
        write_parquet(result, path)
    else:
        write_text(path, render(result, form))


def save(result: Result, path: Path) -> None:
    """Write the table in the format that the file's suffix names.

    Raises PrunectlError for a suffix that is not in `SUFFIXES`, StoreError where the file cannot be written.
    """
    if path.suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise PrunectlError(f"unknown suffix {path.suffix!r} of {path.name}; allowed: {known}")
    write(result, path, SUFFIXES[path.suffix])


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Result:
    """Make a table of texts for the functions above; columns but the first are aligned as numbers."""
    kinds = tuple("NUMBER" if i else "VARCHAR" for i in range(len(columns)))
    return Result(tuple(columns), kinds, [tuple(row) for row in rows])


def typed_table(columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> Result:
    """Make a table of values from its columns' names and DuckDB types, for programs."""
    return Result(tuple(columns), tuple(columns.values()), [tuple(row) for row in rows])
