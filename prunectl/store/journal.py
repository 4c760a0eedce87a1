"""Read and write append-only logs: one JSON record per line, the only way facts leave a worker.

Every record has `seq` (0, 1, 2 … through the file), `attempt` (1, 2 … how often the stage was started), `time`
(Unix seconds) and `type`. A crash can leave a torn last line: readers stop before it, and the next writer ends it
and goes on, so that readers skip it as the one line that is not a record.

The types of records and their fields are declared in `records.events` for stages, in `records.scheduler_log` for the
scheduler.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prunectl.store.files import call_hook, cannot_write, dumps

Record = dict[str, Any]


def read(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """Read complete records from byte `offset` on. Returns them and the offset to go on from.

    A missing file has no records. Lines that are not JSON objects (torn by a crash) are left out.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return [record for record in _parsed(data[:end]) if isinstance(record, dict)], offset + end


def _parsed(data: bytes) -> list[Any]:
    """Parse all lines that are JSON."""
    lines = data.splitlines()
    try:
        # As one array, which is twice as fast. A torn line cannot hide in it: what follows is a complete object,
        # and no beginning of one turns into something complete by it.
        return list(json.loads(b"[" + b",".join(lines) + b"]"))
    except ValueError:
        pass
    out = []
    for line in lines:
        try:
            out.append(json.loads(line))
        except ValueError:
            continue
    return out


class Journal:
    """The writer of one log. Only the process that holds the stage's lock may have one."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open for appending; a torn last line is ended first. Raises StoreError where it cannot be written."""
        self.path = path
        self._clock = clock
        records, _ = read(path)
        self.seq = records[-1]["seq"] + 1 if records else 0
        self.attempt = max((record["attempt"] for record in records), default=0) + 1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
            )
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                self._write(b"\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, kind: str, *, durable: bool = False, **fields: Any) -> Record:
        """Append a record and return it; `durable` waits until it is on the disk.

        Raises StoreError where it cannot be written; the log is then as it was before.
        """
        record: Record = {
            "seq": self.seq,
            "attempt": self.attempt,
            "time": self._clock(),
            "type": kind,
            **fields,
        }
        call_hook("write", self.path)
        try:
            self._write(dumps(record).encode() + b"\n")
            if durable:
                call_hook("fsync", self.path)
                os.fsync(self._descriptor)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.seq += 1
        return record

    def _write(self, data: bytes) -> None:
        size = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            # On a full disk a part of the line may stand there: what is written later must not join it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file; the journal cannot be used after."""
        os.close(self._descriptor)
