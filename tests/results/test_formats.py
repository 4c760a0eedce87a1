"""Tables as text."""

import csv
import io
import json
from datetime import datetime

import duckdb
import pytest

from prunectl.errors import PrunectlError
from prunectl.results.formats import FORMATS, latex, render, save
from prunectl.store.db.query import Result

TABLE = Result(
    ("name", "value", "many", "when", "yes"),
    ("VARCHAR", "DOUBLE", "VARCHAR[]", "TIMESTAMP", "BOOLEAN"),
    [
        ('a,"b"|c_d', 92.123456789, ["x", "y"], datetime(2026, 1, 2, 3, 4, 5), True),
        (None, float("nan"), [], None, None),
    ],
)


def test_csv_keeps_every_digit():
    rows = list(csv.reader(io.StringIO(render(TABLE, "csv"))))
    assert rows[0] == list(TABLE.columns)
    assert rows[1] == ['a,"b"|c_d', "92.123456789", '["x", "y"]', "2026-01-02T03:04:05", "true"]
    assert rows[2] == ["", "nan", "[]", "", ""]


def test_json_is_a_list_of_objects_and_has_no_nan():
    rows = json.loads(render(TABLE, "json"))
    assert rows[0] == {
        "name": 'a,"b"|c_d', "value": 92.123456789, "many": ["x", "y"], "when": "2026-01-02T03:04:05", "yes": True,
    }  # fmt: skip
    assert rows[1]["value"] is None


def test_markdown_escapes_bars_and_aligns_numbers():
    assert render(TABLE, "md").splitlines() == [
        "| name | value | many | when | yes |",
        "| --- | ---: | --- | --- | --- |",
        '| a,"b"\\|c_d | 92.1235 | ["x", "y"] | 2026-01-02 03:04:05 | true |',
        "|  | nan | [] |  |  |",
    ]


def test_latex_is_escaped():
    text = render(TABLE, "latex")
    assert text.startswith("\\begin{tabular}{lrlll}\n\\toprule\nname & value")
    assert 'a,"b"|c\\_d & 92.1235' in text
    assert (
        latex("50 % ± 1 & {x}^2 \\")
        == r"50 \% $\pm$ 1 \& \{x\}\textasciicircum{}2 \textbackslash{}"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_table_has_its_columns(form):
    text = render(Result(("a", "b"), ("INTEGER", "VARCHAR"), []), form)
    assert text == "[]\n" if form == "json" else "a" in text


def test_files_by_their_suffix(tmp_path):
    for suffix, form in {".csv": "csv", ".json": "json", ".md": "md", ".tex": "latex"}.items():
        save(TABLE, tmp_path / f"table{suffix}")
        assert (tmp_path / f"table{suffix}").read_text() == render(TABLE, form)
    save(TABLE, tmp_path / "table.parquet")
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(
            "SELECT name, many FROM read_parquet($1)", [str(tmp_path / "table.parquet")]
        ).fetchall()
    assert found == [('a,"b"|c_d', ["x", "y"]), (None, [])]


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(PrunectlError, match=r"unknown format 'xls'; allowed: csv, json, md, latex"):
        render(TABLE, "xls")
    with pytest.raises(PrunectlError, match=r"unknown suffix '\.xls'"):
        save(TABLE, tmp_path / "x.xls")
