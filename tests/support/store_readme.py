"""Print store/README.md, made from the records, the schema and the queries so that it cannot fall behind them.

python -m tests.support.store_readme > store/README.md
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import msgspec

from prunectl.spec.key import Spec
from prunectl.spec.study import Study
from prunectl.store.db import schema
from prunectl.store.db.queries import queries
from prunectl.store.records import base, events, messages, requests, scheduler_log
from prunectl.store.records.archive import Manifest
from prunectl.store.records.base import LogRecord
from prunectl.store.records.dataset import DatasetRecord
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.labels import Labels
from prunectl.store.records.provenance import RunRecord
from prunectl.store.records.replication import Replica, Replication
from prunectl.store.records.result import Result
from prunectl.store.records.store_format import StoreFormat
from prunectl.store.records.texts import Described, described, record_name

_INTRODUCTION = """\
# The store

The default place for results. A store is a folder; `--store` or `PRUNECTL_STORE` names another one.

| path | what it is |
|---|---|
| `stages/<key>/` | a stage: `spec.json`, `events.jsonl`, checkpoints, predictions, and `result.json`, written last |
| `plans/<digest>.json` | every version of every plan that was run, with its trials and their stages |
| `runs/<id>.json` | every start of a scheduler: command, commit, packages, devices |
| `datasets/<fingerprint>.json` | what the files of a data set held when they were first used |
| `labels/<fingerprint>-<digest>.json` | the true class of each test item |
| `replications/<id>.json` | how stages of an exported study that were run again compare, wherever they were |
| `scheduler.jsonl` | what the scheduler did: requests, retries, failures |
| `format.json` | which records have no checksum: those of older versions |
| `results.duckdb` | an index of all that, for SQL; delete it and `prunectl store rebuild` makes it again |
| `recipes/*.sql` | queries with a name: `prunectl sql -q NAME`; your own may stand beside them |
| `control/`, `logs/` | locks, the scheduler's heartbeat, requests to it; its output |

The files are the truth and the database follows them, about a second behind while a scheduler runs. Query it with
`prunectl sql QUERY` at any time, or with DuckDB's own shell: `duckdb -readonly results.duckdb`. A shell that stays
open keeps the database from following, and nothing else: the run goes on and it catches up later.

Scores are in the unit of the task's metric (table `tasks`): the accuracies of classification in percent and their
differences in percentage points. Losses are in nats, times in seconds (UTC where they are moments), sparsities
fractions from 0 to 1 of the dense network's prunable weights. `n` is the number of seeds. Intervals are 95 % intervals
by Student's t, and differences are paired by seed.
"""

_RULES = """\
## Files

All are JSON, logs (`.jsonl`) with a record per line. A number that is not finite, such as the loss of a stage that
diverged, is null. A field that is not there has its default, one that is not known is passed over, and so is a record
of an unknown type; a record that does not fit its table is left out, and named by `prunectl status`. Numbers without a
range lie within ±1e100. A type that is none of JSON's has a table of its own.

Each record ends with a member `sum`, 16 hex digits: BLAKE2b with a digest of 8 bytes over all bytes before the comma
that it follows. Only spec.json has none: the sha256 of its content names its folder. A record that is not what its
checksum says, or has none and is not listed in format.json, is damaged: it is in no table, `status` and `store verify`
name it, and it stays where it is until its stage or its plan is run again; then it is renamed `NAME.damaged-TIME`. A
record that is a mark of its log (`lines_before`, `digest_before`) vouches for the lines before it, and a result for the
files that it names. The digest of no lines is empty, and that of one more line BLAKE2b of the digest before it, as hex
digits, and the line.

{written}

{old}
"""

_WRITTEN = (
    "Fields that have their default are left out of {names}; everything else is written whole."
)

_OLD = """\
Old records are read as well. Before tasks had names, metrics stood beside the other fields: {names} are read as \
`metrics` and, where they have `score` in the place of `accuracy`, as scores. The trials of an old plan do not name \
their plan and have its name; its `created` may be ISO 8601 text instead of Unix seconds."""


@dataclass(frozen=True)
class File:
    """A kind of file, or of message."""

    title: str
    path: str
    text: str
    records: Any
    """A record type, or a union of them."""


FILES = (
    File("A stage", "stages/<key>/spec.json", "What decides the stage's numbers; its key is the sha256 of this file's "
         "content.", Spec),
    File("A stage's result", "stages/<key>/result.json", "Written last: a stage that has one is done. The log ends "
         "with the same record.", Result),
    File("A stage's log", "stages/<key>/events.jsonl", "What its workers did, as it happened.", events.Event),
    File("A version of a plan", "plans/<digest>.json", "Its trials and the stages they share.", Study),
    File("Records without checksums", "format.json", "Written when a store is first used by a version that makes "
         "checksums.", StoreFormat),
    File("A run", "runs/<id>.json", "What a scheduler was started with.", RunRecord),
    File("A data set", "datasets/<fingerprint>.json", "What its files held when this store first used them.",
         DatasetRecord),
    File("Labels of a test set", "labels/<fingerprint>-<digest>.json", "The digest is the beginning of the sha256 of "
         "`data` in canonical JSON.", Labels),
    File("A request", "control/requests/<id>.json", "Asked of the scheduler, which removes the file once it has "
         "logged its answer.", requests.Request),
    File("The scheduler's log", "scheduler.jsonl", "What the scheduler did: the only memory between its runs.",
         scheduler_log.SchedulerRecord),
    File("The heartbeat", "control/heartbeat.json", "What the scheduler is doing now, replaced every second.",
         HeartbeatRecord),
    File("An exported study", "parcel.json", "In the folder that `prunectl export --study` writes, written last.",
         Manifest),
    File("A replication", "replications/<id>.json", "How a stage of an exported study compares that "
         "`prunectl replicate` ran again; in the store where it ran, and wherever it was sent.", Replication),
    File("A store that replicates", "replica.json", "In a store that `prunectl replicate` has made.", Replica),
    File("Commands to a worker", "", "A line of JSON each, on its standard input.", messages.AnyCommand),
    File("Messages of a worker", "", "A line of JSON each, on its standard output.", messages.AnyMessage),
)  # fmt: skip


def members(hint: Any) -> list[type[msgspec.Struct]]:
    """List the record types that a type names, in order."""
    if inspect.isclass(hint) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [found for inner in get_args(hint) for found in members(inner)]


def reachable(hint: Any) -> list[type[msgspec.Struct]]:
    """List the record types that a type names and those that their fields name, each once."""
    found = list(dict.fromkeys(members(hint)))
    for kind in found:  # grows as it is walked through
        for inner in get_type_hints(kind).values():
            found += [each for each in members(inner) if each not in found]
    return found


def fields(kind: type[msgspec.Struct]) -> list[Described]:
    """List a record's fields, but for those of all records of a log.

    A text may be the docstring after the field, or that of the record it holds.
    """
    common = set() if kind is LogRecord else {field.name for field in described(LogRecord)}
    common = common if issubclass(kind, LogRecord) else set()
    said, hints = _docstrings(kind), get_type_hints(kind)
    return [
        field._replace(
            text=" ".join(filter(None, (field.text, said.get(field.name))))
            or about(*members(hints[field.name]))
        )
        for field in described(kind)
        if field.name not in common
    ]


def _docstrings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the docstrings after a class's own fields, on one line each."""
    [found] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(found, ast.ClassDef)
    texts = {}
    for field, after in zip(found.body, found.body[1:], strict=False):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split()).replace("``", "`")
    return texts


def about(*kinds: type[msgspec.Struct]) -> str:
    """Return the first paragraph of a record's docstring on one line; "" without a record."""
    text = (inspect.getdoc(kinds[0]) or "").split("\n\n")[0] if kinds else ""
    return " ".join(text.split()).replace("``", "`")


def _table(rows: Iterable[Described]) -> list[str]:
    out = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        cells = (f"`{row.name}`", row.type, f"`{row.default}`" if row.default else "", row.text)
        out.append(f"| {' | '.join(cells)} |".replace("\n", " "))
    return [*out, ""]


def _section(file: File, said: set[type[msgspec.Struct]]) -> Iterator[str]:
    """Yield the lines about a file: its records, then what their fields hold and no file before it did."""
    alone = None if get_args(file.records) else file.records
    path = f": `{file.path}`" if file.path else ""
    yield from [f"### {file.title}{path}{_tag(alone)}", "", file.text, ""]
    for kind in reachable(file.records):
        if kind not in said and kind is not alone:
            yield from [f"#### {record_name(kind)}{_tag(kind)}", "", about(kind), ""]
        if kind not in said and (rows := fields(kind)):
            yield from _table(rows)
        said.add(kind)


def _tag(kind: type[msgspec.Struct] | None) -> str:
    field = kind and kind.__struct_config__.tag_field
    return f' (`"{field}": "{record_name(kind)}"`)' if kind and field else ""


def readme() -> str:
    """Return the whole text."""
    lines = [_INTRODUCTION, "## Queries", "", "| query | parameters | answers |", "|---|---|---|"]
    for query in queries().values():
        parameters = ", ".join(
            f"`{name}`" + (f" = {default}" if default is not None else "")
            for name, default in query.parameters.items()
        )
        lines.append(f"| {query.name} | {parameters} | {query.description} |")
    lines += ["", "## Tables and views", "", schema.schema_text()]
    return "\n".join([*lines, *_files()]) + "\n"


def _leaving_out() -> list[str]:
    """Name the files, and the records in other files, that are written without defaults."""
    titles, inner = [], []
    for file in FILES:
        kinds = {kind: kind.__struct_config__.omit_defaults for kind in reachable(file.records)}
        if file.records is Spec or all(kinds[kind] for kind in members(file.records)):
            titles.append(file.title[0].lower() + file.title[1:])
        else:
            inner += [f"`{record_name(kind)}`" for kind, omits in kinds.items() if omits]
    return [*titles, *inner]


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _files() -> Iterator[str]:
    """Yield the lines about all files."""
    written = _WRITTEN.format(names=_and(_leaving_out()))
    old = _OLD.format(names=_and([f"`{name}`" for name in base.OLD_METRICS]))
    yield _RULES.format(written=textwrap.fill(written, 120), old=textwrap.fill(old, 120))
    yield from [
        "### Records of logs",
        "",
        "All records of both logs have these fields, and their own.",
        "",
    ]
    yield from _table(fields(LogRecord))
    yield from ["Why a stage failed (`reason`):", "", "| reason | meaning |", "|---|---|"]
    yield from [f"| `{reason}` | {text} |" for reason, text in events.REASONS.items()]
    yield ""
    said: set[type[msgspec.Struct]] = set()
    for file in FILES:
        yield from _section(file, said)


if __name__ == "__main__":
    print(readme(), end="")
