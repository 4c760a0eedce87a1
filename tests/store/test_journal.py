"""A log is read as far as it is one: a line that is none costs no other."""

import os

import pytest

from prunectl.store.records.events import Failed, Note, read_events
from prunectl.store.records.journal import Journal

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
