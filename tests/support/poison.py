"""Records with one field of another type or size than it has, as a crash, an editor or another program leaves them."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from prunectl.spec.key import Spec, spec_key
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.base import BadRecord, decode
from prunectl.store.records.events import read_events
from prunectl.store.records.journal import Log
from prunectl.store.records.labels import read_labels
from prunectl.store.records.plan import read_plan
from prunectl.store.records.provenance import read_run
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import read_scheduler_log
from prunectl.store.records.stage import read_result, read_spec
from tests.full import full
from tests.support.records import resealed

RAW = {
    "<2^63>": "9223372036854775808", "<2^70>": str(2**70), "<1e400>": "1e400", "<digits>": "9" * 5000,
    "<surrogate>": '"\\ud800"', "<nan>": "NaN",
}  # fmt: skip
"""What no value of Python writes as JSON, by what stands for it."""
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**31, 2**53 + 1, 10**11, 1e11, 1e38, 1e101, 1e308, -1e308, "", "x", "0.5", "nan",
    "a\0b", "../../x", "x" * 300, [], {}, [[1]], [None], {"a": {"b": 1}}, *RAW,
)  # fmt: skip


def places(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Every field of some JSON; of the members of a list, or of a dictionary by key, the first that is like it."""
    inside: list[tuple[str | int, Any]]
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    alike = set()
    for name, each in inside:
        is_key = isinstance(name, str) and len(name) == 64
        form = ("*" if isinstance(name, int) or is_key else name, type(each))
        if form in alike:
            continue
        alike.add(form)
        yield (*path, name)
        if isinstance(each, dict | list):
            yield from places(each, *path, name)


STRIDE = 1 if full() else 5
"""Each field is set to each n-th value: to others than the field before, as their number is no multiple."""


def variants(record: Any) -> Iterator[str]:
    """The record's JSON with each field in turn set to values, and without it."""
    for number, place in enumerate(places(record)):
        for value in (*VALUES, ...)[-number % STRIDE :: STRIDE]:
            content = copy.deepcopy(record)
            holder = content
            for part in place[:-1]:
                holder = holder[part]
            if value is ...:
                del holder[place[-1]]
            else:
                holder[place[-1]] = value
            text = json.dumps(content)
            for word, raw in RAW.items():
                text = text.replace(f'"{word}"', raw)
            yield text


READERS: dict[str, Callable[[Path], object]] = {
    "plans/*.json": read_plan,
    "runs/*.json": read_run,
    "labels/*.json": read_labels,
    "stages/*/spec.json": lambda path: read_spec(StagePaths(path.parent)),
    "stages/*/result.json": lambda path: read_result(StagePaths(path.parent)),
    "stages/*/events.jsonl": read_events,
    "scheduler.jsonl": read_scheduler_log,
}
"""How the files of a store are read."""


def _without_log(record: dict[str, Any]) -> dict[str, Any]:
    """A result that vouches for no log."""
    return {k: v for k, v in record.items() if k not in ("lines_before", "digest_before")}


def _lines(texts: Iterable[str]) -> str:
    """Lines of a log, each with its checksum."""
    return "".join(resealed(text) + "\n" for text in texts)


def is_bad(text: bytes | str, kind: Any) -> bool:
    """Whether JSON is no record of the type."""
    try:
        decode(text, kind, "")
    except BadRecord:
        return True
    return False


@dataclass
class Poisoner:
    """Adds damaged copies of a store's records to it. What the copies are of stays as it is."""

    paths: StorePaths
    number: int = 0

    def _name(self) -> str:
        self.number += 1
        return hashlib.sha256(f"poison {self.number}".encode()).hexdigest()

    def _stage(self) -> Path:
        """A finished stage that pruned something."""
        return next(path.parent for path in sorted(self.paths.stages.glob("*/mask.safetensors")))

    def all(self) -> None:
        """Poison every kind of record that commands read."""
        for name, kind in (("result.json", Result), ("spec.json", Spec)):
            self.of_stages(name, kind)
        self.event_logs()
        self.runs()
        self.plans()
        self.scheduler_log()

    def of_stages(self, name: str, kind: type[msgspec.Struct]) -> None:
        """Stages with a damaged result, or a damaged description."""
        source = self._stage()
        for text in variants(_without_log(json.loads((source / name).read_text()))):
            folder = self._copy(source)
            own = text.replace(source.name, folder.name)
            (folder / name).write_text(own if name == "spec.json" else resealed(own))

    def event_logs(self) -> None:
        """A stage for each type of record, whose log has a line for each way that it can be damaged."""
        for line in self._lines(self._stage() / "events.jsonl"):
            folder = self._copy(self._stage())
            (folder / "result.json").unlink()
            (folder / "events.jsonl").write_text(_lines(variants(line)))

    def plans(self) -> None:
        """Plan records, each with a digest, a name, trials and stages of its own."""
        [source] = self.paths.plans.glob("*.json")
        record = json.loads(source.read_text())
        for text in variants(record):
            digest = self._name()
            own = {name: hashlib.sha256(f"{digest}{name}".encode()).hexdigest()
                   for name in re.findall("[0-9a-f]{64}", text)}  # fmt: skip
            own |= {trial["trial"]: digest[n : n + 16] for n, trial in enumerate(record["trials"])}
            own |= {record["digest"]: digest, f'"{record["name"]}"': f'"poor{self.number}"'}
            for name, other in own.items():
                text = text.replace(name, other)
            (self.paths.plans / f"{digest}.json").write_text(resealed(text))

    def runs(self) -> None:
        """Run records, of another plan."""
        [plan] = self.paths.plans.glob("*.json")
        source = next(iter(self.paths.runs.glob("*.json")))
        for text in variants(json.loads(source.read_text().replace(plan.stem, self._name()))):
            name = self._name()
            own = text.replace(source.stem, name)
            (self.paths.runs / f"{name}.json").write_text(resealed(own))

    def scheduler_log(self) -> None:
        """Lines at the end of the log, of each type that it has."""
        lines = [text for line in self._lines(self.paths.scheduler_log) for text in variants(line)]
        with self.paths.scheduler_log.open("a") as file:
            file.write(_lines(lines))

    def _copy(self, source: Path) -> Path:
        """A stage like another, of a seed and so of a key of its own: its description and its result."""
        spec = read_spec(StagePaths(source))
        self.number += 1
        made = Spec(spec.numerics, replace(spec.stage, seed=10_000 + self.number))
        folder = self.paths.stages / spec_key(made)
        folder.mkdir()
        (folder / "spec.json").write_text(made.to_json() + "\n")
        result = json.dumps(_without_log(json.loads((source / "result.json").read_text())))
        (folder / "result.json").write_text(resealed(result.replace(source.name, folder.name)))
        return folder

    def _lines(self, log: Path) -> list[Any]:
        """The first record of each type."""
        records = [json.loads(line) for line in log.read_text().splitlines()]
        return list({record["type"]: record for record in reversed(records)}.values())

    def bad(self) -> set[str]:
        """The store's files that are no records, or that have lines which are none, by their path inside the store."""
        files = [path for pattern in READERS for path in self.paths.root.glob(pattern)]
        return {path.relative_to(self.paths.root).as_posix() for path in files if self.is_bad(path)}

    def is_bad(self, path: Path) -> bool:
        """Whether a file of the store is no record, or has lines which are none."""
        name = path.relative_to(self.paths.root)
        [reader] = [READERS[pattern] for pattern in READERS if name.match(pattern)]
        try:
            found = reader(path)
        except BadRecord:
            return True
        return isinstance(found, Log) and bool(found.bad)
