"""Every record comes back as it was written; what is no record is read by its defaults or named: never a traceback."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.spec.key import Spec
from prunectl.spec.study import Study
from prunectl.spec.trial import Trial
from prunectl.store.paths import StorePaths
from prunectl.store.records import (
    archive,
    events,
    heartbeat,
    labels,
    messages,
    provenance,
    scheduler_log,
)
from prunectl.store.records.base import BadRecord, LogRecord, decode, encode, read_record
from prunectl.store.records.events import Event, read_events
from prunectl.store.records.journal import Journal, Unknown
from prunectl.store.records.plan import read_plan, write_study
from prunectl.store.records.requests import Request
from prunectl.store.records.scheduler_log import SchedulerRecord, read_scheduler_log
from prunectl.store.records.store_format import may_lack_checksum
from tests.full import full
from tests.support.typed_records import damaged, records

RECORDS: list[type[msgspec.Struct]] = [
    *get_args(Event), *get_args(SchedulerRecord), *get_args(messages.AnyMessage),
    *get_args(messages.AnyCommand), *get_args(Request), heartbeat.HeartbeatRecord,
    provenance.RunRecord, archive.Manifest, labels.Labels, Spec, Trial,
]  # fmt: skip
"""Every type that is written to the disk or to another process as it is."""
EXAMPLES = 20_000 if full() else 250


@settings(max_examples=EXAMPLES, deadline=None)
@given(kind=st.sampled_from(RECORDS), data=st.data())
def test_a_record_comes_back_as_it_was_written(
    kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    record = data.draw(records(kind))
    line = encode(record)
    assert b"\n" not in line
    assert decode(line, kind, "a test") == record


@settings(max_examples=EXAMPLES, deadline=None)
@given(kind=st.sampled_from(RECORDS), data=st.data())
def test_a_damaged_record_is_read_or_named(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    line = damaged(data, data.draw(records(kind)))
    try:
        found = decode(line, kind, "a place")
    except BadRecord as error:
        said = str(error)
    else:
        assert isinstance(found, kind)
        encode(found)
        said = "a place is malformed: no"
    assert said.startswith("a place is malformed: ")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[1]", b"3", b'"text"', b"[" * 10_000]
)
def test_what_is_no_json_object_is_named(content: bytes) -> None:
    for kind in RECORDS:
        with pytest.raises(BadRecord, match=r"^a place is "):
            decode(content, kind, "a place")


def test_numbers_that_are_not_finite_are_null_and_come_back_as_none() -> None:
    for value in (math.nan, math.inf, -math.inf):
        line = encode(events.Epoch(loss=value, metrics={"accuracy": value}))
        assert json.loads(line)["loss"] is None
        found = decode(line, events.Epoch, "a test")
        assert (found.loss, found.metrics) == (None, {"accuracy": None})


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(data=st.data())
def test_a_log_with_damaged_lines_gives_the_others(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    lines, whole = [], 0
    for number in range(5):
        kind = data.draw(st.sampled_from(get_args(Event)))
        record = data.draw(records(kind))
        record.seq = number
        if data.draw(st.booleans()):
            lines.append(encode(record))
            whole += 1
        else:
            lines.append(
                data.draw(
                    st.sampled_from([damaged(data, record), encode(record)[:-2], b"\xff", b"[1]"])
                )
            )
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    log = read_events(path)
    assert len(log.records) == len(log.lines) >= whole
    begins = {sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))}
    assert log.bad.keys() <= begins
    assert log.end.bytes == path.stat().st_size
    with_header = [record for record in log.records if not isinstance(record, Unknown)]
    assert all(isinstance(record, LogRecord) for record in with_header)


def test_a_record_of_an_unknown_type_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.jsonl"
    path.write_bytes(b'{"seq":0,"attempt":1,"time":3.5,"type":"teleported","key":"k"}\n')
    log = read_scheduler_log(path)
    assert log.records == [Unknown(kind="teleported", seq=0, attempt=1, time=3.5)]
    assert (log.bad, len(log.lines)) == ({}, 1)
    journal = Journal(path)
    assert (journal.seq, journal.attempt) == (1, 2)
    journal.close()


OLD = {
    "epoch": b'{"seq":3,"attempt":1,"time":1.5,"type":"epoch","epoch":1,"step":8,"lr":0.1,"rates":[[0,0.1]],'
    b'"train_loss":0.5,"train_accuracy":90.0,"loss":null,"accuracy":80.0,"top5":null,"validation_loss":null,'
    b'"validation_accuracy":70.0,"seconds":1}',
    "stage_done": b'{"seq":1,"attempt":1,"time":2,"type":"stage_done","key":"k","seconds":3.5,"accuracy":81.5,'
    b'"flag":null}',
}
"""Lines as they were written before tasks had names."""


def test_metrics_of_older_records_are_found_in_their_place() -> None:
    epoch = decode(OLD["epoch"], events.Epoch, "a test")
    assert epoch.metrics == {
        "accuracy": 80.0, "top5": None, "train_accuracy": 90.0, "validation_accuracy": 70.0,
    }  # fmt: skip
    assert (epoch.score, epoch.train_score, epoch.validation_score) == (80.0, 90.0, 70.0)
    assert decode(OLD["stage_done"], scheduler_log.StageDone, "a test").score == 81.5


@settings(max_examples=EXAMPLES // 8, deadline=None)
@given(data=st.data())
def test_a_study_comes_back_with_the_stages_that_its_plan_made(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    study = data.draw(records(Study))
    study = msgspec.structs.replace(
        study,
        digest="d1",
        # Cells that are chosen among have to be there.
        selections=tuple(msgspec.structs.replace(each, cells=()) for each in study.selections),
        trials=tuple(
            msgspec.structs.replace(trial, plan=study.name, sparsities=("0",) * len(trial.path))
            for trial in study.trials
            if trial.path
        ),
    )
    paths = StorePaths(tmp_path_factory.mktemp("store"))
    write_study(paths, study)
    assert read_plan(paths.plan("d1")) == study


PACKAGE = Path(__file__).parents[2] / "prunectl"
ALLOWED = {
    "store/db/query.py": "rows of any query",
    "spec/key.py": "canonical JSON, on its way out",
    "scheduler/devices/cuda.py": "handles of the driver",
}
ROOMS = ("spec", "store", "scheduler", "worker", "monitor")


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_untyped_comes_from_the_disk_or_another_process(room: str) -> None:
    """But for what DuckDB returns, whose columns a query decides."""
    untyped = ("json.loads", "json.load(", "dict[str, Any]", "Mapping[str, Any]")
    found = {
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in (PACKAGE / room).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(word in line for word in untyped)
        and path.relative_to(PACKAGE).as_posix()
        not in ("store/db/query.py", "spec/key.py", "scheduler/devices/nvml_child.py")
    }
    assert found == set()


def test_a_record_outside_of_any_store_may_lack_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it lies, and however it is named."""
    monkeypatch.chdir(tmp_path)
    Path("beat.json").write_bytes(encode(heartbeat.HeartbeatRecord(time=1.0)))
    for path in (Path("beat.json"), tmp_path / "beat.json"):
        assert read_record(path, heartbeat.HeartbeatRecord).time == 1.0
    assert may_lack_checksum(Path("/beat.json"))


def test_control_characters_of_a_text_come_back_escaped() -> None:
    """However JSON wrote them; what only looks like an escape stays."""
    text = "a\x1b[31m\x07\x00\b\x7f\x9b\n\r\t·\\u001b\\\\b\\"
    shown = "a\\u001b[31m\\u0007\\u0000\\b\\u007f\\u009b\n\r\t·\\u001b\\\\b\\"
    record = events.Note(text=text)
    assert decode(encode(record), events.Note, "a test").text == shown
    spelled = json.dumps({"type": "note", "text": text})  # é as \u00e9
    assert decode(spelled, events.Note, "a test").text == shown
    assert decode(encode(events.Note(text=shown)), events.Note, "a test").text == shown
