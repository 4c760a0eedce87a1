"""A table of one's own published numbers, to stand beside results as a publication does: `compare --to my.csv`.

The columns are those of the database's table `published`; network, dataset, method, sparsity and median are needed,
and the dense networks either as a column or as rows of the method dense. A study whose numbers are one's own may also
say how it trained and pruned (recipe, criterion, scope), as `rank` writes it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from prunectl.errors import DataError, MissingData, nearest, shown
from prunectl.results.samples import Sample
from prunectl.spec.ranges import Amount, Percent

MOST_ROWS = 100_000
"""The three publications together have 7,905."""

Text = Annotated[str, Meta(min_length=1, max_length=200)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Networks = Annotated[int, Meta(ge=1, le=10**6)]
Structure = Annotated[str, Meta(pattern=r"^(none|unstructured|structured(-.{1,50})?)\Z")]


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the file; accuracies in percent, sparsities and rates of pruning as fractions."""

    network: Text
    dataset: Text
    method: Text
    sparsity: Share
    median: Percent | None = None
    mean: Percent | None = None
    dense: Percent | None = None
    n: Networks = 1
    structure: Structure = "unstructured"
    schedule: Literal["one-shot", "iterative", "dense"] = "one-shot"
    prune_step: Share | None = None
    retrain_epochs: Amount | None = None
    low: Percent | None = None
    high: Percent | None = None
    band: Text | None = None
    recipe: str = ""
    criterion: str = ""
    scope: str = ""
    source: str = ""
    figure: str = ""
    metric: Literal["top1"] = "top1"
    validation: Percent | None = None

    @property
    def centre(self) -> float | None:
        """The median, or the mean where there is none."""
        return self.mean if self.median is None else self.median


_WORDS = {
    Percent: "percent, 0 to 100",
    Share: "a fraction, from 0 to below 1",
    Amount: "a number from 0 on",
    Networks: "a whole number from 1 on",
    Structure: "unstructured, structured, or structured- and a name",
    Text: "1 to 200 characters",
}
"""What a column may hold, by its type."""
FIELDS = Row.__struct_fields__
NEEDED = tuple(field.name for field in msgspec.structs.fields(Row) if field.required)


def is_file(to: str) -> bool:
    """Whether what is to be compared with is a file by its name, and not a publication."""
    return to.lower().endswith(".csv")


def own_numbers(file: Path) -> list[Sample]:
    """Read the pruned networks of a file. Raises DataError with the line of the first mistake."""
    rows = list(_rows(file))
    dense = _dense(file, rows)
    samples = []
    for line, row in rows:
        if row.method == "dense":
            continue
        beside = row.dense if row.dense is not None else dense.get(_place(row))
        if beside is None:
            raise DataError(
                f"{file}:{line}: no dense network to take the change from: add the column dense, or a line with "
                f"method dense for {row.network} on {row.dataset}"
            )
        samples.append(_sample(file, row, beside))
    if not samples:
        raise DataError(f"{file}: no pruned network in it, only the heading")
    return samples


def _sample(file: Path, row: Row, dense: float) -> Sample:
    assert row.centre is not None
    return Sample(
        network=row.network, dataset=row.dataset, structure=row.structure, schedule=row.schedule, kind=row.schedule,
        prune_step=row.prune_step, strategy=row.method, sparsity=row.sparsity, retrain_epochs=row.retrain_epochs,
        n=row.n, median=row.centre, low=row.low, high=row.high, band=row.band, dense=dense,
        label=row.figure or row.source or file.name, level=round(row.sparsity, 3), recipe=row.recipe,
        criterion=row.criterion, scope=row.scope,
    )  # fmt: skip


def _place(row: Row) -> tuple[str, ...]:
    """What pruned networks share with their dense ones."""
    return row.source, row.network, row.dataset, row.recipe


def _dense(file: Path, rows: list[tuple[int, Row]]) -> dict[tuple[str, ...], float]:
    """Collect the lines of dense networks. Raises DataError where two of them say different things."""
    found: dict[tuple[str, ...], float] = {}
    for line, row in rows:
        if row.method != "dense":
            continue
        # Changes are from the mean dense accuracy, as for the publications.
        score = row.median if row.mean is None else row.mean
        assert score is not None
        if found.setdefault(_place(row), score) != score:
            raise DataError(
                f"{file}:{line}: dense networks of {row.network} on {row.dataset} a second time, with another score"
            )
    return found


def _rows(file: Path) -> Iterator[tuple[int, Row]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            _check_heading(file, reader.fieldnames or ())
            for number, raw in enumerate(reader):
                if number == MOST_ROWS:
                    raise DataError(f"{file}: more than {MOST_ROWS:,} lines")
                yield reader.line_num, _row(f"{file}:{reader.line_num}", raw)
    except (FileNotFoundError, IsADirectoryError):
        raise MissingData(f"{file}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: not a text in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{file}:{reader.line_num}: no CSV: {error}") from None


def _check_heading(file: Path, names: Any) -> None:
    for name in names:
        if name not in FIELDS:
            near = nearest(name, FIELDS)
            meant = f"; did you mean {near!r}?" if near else ""
            raise DataError(
                f"{file}:1: unknown column {shown(repr(name))}; allowed: {', '.join(FIELDS)}{meant}"
            )
        if list(names).count(name) > 1:
            raise DataError(f"{file}:1: column {name} twice")
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise DataError(f"{file}:1: no column {' and no column '.join(missing)}")
    if not {"median", "mean"} & set(names):
        raise DataError(f"{file}:1: neither a column median nor a column mean")


def _row(place: str, raw: Mapping[Any, Any]) -> Row:
    """Decode a line; an empty field is one that is not there."""
    if None in raw or None in raw.values():
        raise DataError(
            f"{place}: {'more' if None in raw else 'fewer'} fields than the heading has"
        )
    said = {name: text.strip() for name, text in raw.items() if text.strip()}
    for name in NEEDED:
        if name not in said:
            raise DataError(f"{place}: nothing under {name}")
    try:
        row = msgspec.convert(
            {name: _plain(text) for name, text in said.items()}, Row, strict=False
        )
    except msgspec.ValidationError as error:
        raise DataError(f"{place}: {_reason(str(error), said)}") from None
    if row.centre is None:
        raise DataError(f"{place}: neither median nor mean")
    if row.method != "dense" and row.schedule == "dense":
        raise DataError(f"{place}: schedule dense belongs to the method dense, found {row.method}")
    if row.low is not None and row.high is not None and not row.low <= row.centre <= row.high:
        raise DataError(
            f"{place}: low {row.low:g}, centre {row.centre:g} and high {row.high:g} are not in order"
        )
    return row


def _plain(text: str) -> str:
    """Write ``.8`` as ``0.8``, which alone is a number to msgspec."""
    return f"0{text}" if text.startswith(".") and text[1:].isdecimal() else text


def _reason(text: str, said: Mapping[str, str]) -> str:
    """Say of the column that a sentence of msgspec's is about what was found, and what is allowed."""
    name = text.partition("`$.")[2].rstrip("`")
    return f"{name}: found {shown(repr(said[name]))}; allowed: {_allowed(name)}"


def _allowed(name: str) -> str:
    kind = next(field.type for field in msgspec.structs.fields(Row) if field.name == name)
    for known, words in _WORDS.items():
        if known in (kind, *get_args(kind)):
            return words
    choices = get_args(kind)
    return ", ".join(choices) if get_origin(kind) is Literal else "a text"
