"""A log is read as far as it is one: a line that is none costs no other."""

import os
from pathlib import Path

import pytest

from prunectl.store.records.events import Failed, Note, read_events
from prunectl.store.records.journal import Journal, Position
from prunectl.store.records.scheduler_log import Queued, RunEnded, read_scheduler_log

DEEP = b"[" * 100_000 + b"]" * 100_000
NOT_RECORDS = {
    "a metric of an older version that is no number": b'{"type":"epoch","seq":1,"accuracy":"high"}',
    "nested too deeply": b'{"type":"note","seq":1,"new":' + DEEP + b"}",
    "a number that is none": b'{"type":"epoch","seq":1,"loss":NaN}',
    "a number too large": b'{"type":"epoch","seq":1,"loss":1e400}',
    "bytes that are no text": b'{"type":"note","seq":1,"text":"\xff"}',
    "a byte order mark": b'\xef\xbb\xbf{"type":"note","seq":1}',
    "null": b'{"type":"note","seq":1,"text":null}',
    "a place past all counting": b'{"type":"note","seq":1000000000000000000000}',
    "an attempt past all counting": b'{"type":"note","seq":1,"attempt":3000000000}',
    "no object": b"[1]",
    "nothing": b"",
}


@pytest.fixture
def log(tmp_path):
    """A log of two records."""
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    journal.append(Note(text="before"))
    journal.append(Note(text="after"))
    journal.close()
    return path


def test_a_text_that_is_no_text_is_written_all_the_same(log):
    """A path with bytes that are not UTF-8, in the message of an error."""
    name = os.fsdecode(b"data\xff")
    journal = Journal(log)
    journal.append(Failed(message=f"no {name}", traceback=name))
    journal.close()
    *_, failed = read_events(log).records
    assert isinstance(failed, Failed)
    assert (failed.message, failed.traceback, failed.seq) == (r"no data\udcff", r"data\udcff", 2)


@pytest.mark.parametrize("line", NOT_RECORDS.values(), ids=NOT_RECORDS)
def test_a_line_that_is_no_record_costs_no_other(log, line):
    first, second = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([first, line, second, b""]))
    assert [record.text for record in read_events(log).records] == ["before", "after"]
    journal = Journal(log)
    assert journal.append(Note(text="more")).attempt == 2
    journal.close()
    assert [record.text for record in read_events(log).records] == ["before", "after", "more"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"type":"note","seq":1,"text":"\\ud800"}', "Input data was truncated"),
        (b'{"type":"note","seq":1,"text":"\xff"}', "can't decode byte 0xff"),
        (b'{"type":"note","seq":1,"text":3}', "Expected `str`, got `int`"),
        (b'{"type":"note","seq":9007199254740993}', "Expected `int` <= 9007199254740992"),
        (b'{"type":"note","seq":1,"new":' + b"[" * 5000, "maximum recursion depth exceeded"),
        (b'{"type":"note","seq":1,"te', ""),
        (b'{"type":"note","seq":1,"text":"\xc3', ""),
        (b'{"type":"no', ""),
    ],
)
def test_a_line_that_is_no_record_is_named_and_a_torn_one_is_not(
    tmp_path: Path, line: bytes, says: str
) -> None:
    path = tmp_path / "events.jsonl"
    first = b'{"type":"note","seq":0,"text":"whole"}\n'
    after = b'{"type":"note","seq":%d,"text":"whole"}\n' % (2 if says else 1)
    path.write_bytes(first + line + b"\n" + after)
    log = read_events(path)
    assert len(log.records) == 2
    assert list(log.bad) == ([len(first)] if says else [])
    assert says in log.bad.get(len(first), "")
    assert read_events(path, Position(bytes=len(first), next_seq=1)).bad == log.bad


def test_numbers_are_not_counted_on_from_the_end_of_their_range(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type":"note","seq":9007199254740992,"attempt":2147483647}\n')
    assert len(read_events(path).records) == 1
    journal = Journal(path)
    journal.append(Note(text="next"))
    journal.close()
    [_, following] = read_events(path).records
    assert (following.seq, following.attempt) == (1, 1), "after a line that is none"


def test_a_torn_line_is_cut_off_by_the_next_writer(log: Path) -> None:
    """However often it is torn again; a damaged one stays, and keeps its number."""
    whole = log.read_bytes()
    for torn in (b'{"type":"note"', b"{"):
        log.write_bytes(whole + torn)
        assert read_events(log).bad == {}
        Journal(log).close()
        assert log.read_bytes() == whole
    log.write_bytes(whole + b'{"type":"note","text":"damaged"}\n{"type":"no')
    assert list(read_events(log).bad) == [len(whole)]
    journal = Journal(log)
    assert journal.append(Note(text="more")).seq == 3
    journal.close()
    found = read_events(log)
    assert [record.text for record in found.records if isinstance(record, Note)][-1] == "more"
    assert list(found.bad) == [len(whole)]


def test_a_last_line_that_lacks_only_its_end_is_a_record(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-1])
    assert len(read_events(log).records) == 2
    journal = Journal(log)
    assert journal.append(Note(text="more")).seq == 2
    journal.close()
    found = read_events(log)
    assert (len(found.records), found.bad) == (3, {})


def test_a_mark_vouches_for_the_lines_before_it(tmp_path: Path) -> None:
    """Lines that are gone, twice there, in another order, or another log's."""
    path = tmp_path / "scheduler.jsonl"
    journal = Journal(path)
    for number in range(4):
        journal.append(Queued(plan=str(number)))
    journal.append(RunEnded(run="r"))
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    assert read_scheduler_log(path).bad == {}
    for changed in (
        lines[1:],
        [lines[0], *lines],
        [lines[1], lines[0], *lines[2:]],
        lines[:2] + lines[3:],
    ):
        path.write_bytes(b"".join(changed))
        [why] = read_scheduler_log(path).bad.values()
        assert why.startswith("vouches for 4 lines before it")
