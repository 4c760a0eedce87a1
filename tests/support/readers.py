"""Programs that read a store's database again and again, as many people who look at it at once do.

    python -m tests.support.readers STORE ask        `prunectl sql`'s question, without a pause, until its input ends
    python -m tests.support.readers STORE command    `prunectl sql` itself, one process after another
    python -m tests.support.readers STORE hold       one connection that only reads, kept open
    python -m tests.support.readers STORE write      one that could write

Each says "ready" once it has begun, and at the end how often it was answered and how often it was not.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from prunectl.errors import PrunectlError
from prunectl.store.db import query
from prunectl.store.paths import StorePaths
from tests.support.command import ROOT, prunectl

SQL = "SELECT count(*) FROM stages WHERE done"


@dataclass(frozen=True)
class Answers:
    """How questions were answered."""

    answered: int
    refused: int
    last: int
    """What the last answer was."""


@dataclass
class Reader:
    """A program of the module that runs."""

    process: subprocess.Popen[str]

    def end(self) -> Answers:
        """Let it end. Returns how it fared."""
        out, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, out
        return Answers(*map(int, out.split()))


@contextlib.contextmanager
def reading(paths: StorePaths, what: str, count: int) -> Iterator[list[Reader]]:
    """Start so many programs and wait until each has begun; they end at the end of the block at the latest."""
    command = [sys.executable, "-m", "tests.support.readers", str(paths.root), what]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    readers = [
        Reader(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))  # type: ignore[call-overload]
        for _ in range(count)
    ]
    try:
        for reader in readers:
            assert reader.process.stdout is not None
            assert reader.process.stdout.readline() == "ready\n"
        yield readers
    finally:
        for reader in readers:
            reader.process.kill()
            reader.process.communicate()


def main(store: str, what: str) -> None:
    """Read until the input ends."""
    paths = StorePaths(Path(store))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    if what in ("hold", "write"):
        with duckdb.connect(str(paths.database), read_only=what == "hold") as connection:
            print("ready", flush=True)
            over.wait()
            [(last,)] = connection.execute(SQL).fetchall()
            print(1, 0, last)
        return
    query.tell = lambda text: print(text, file=sys.stderr, flush=True)
    print("ready", flush=True)
    answered = refused = last = 0
    ends = False
    while not ends:
        ends = over.is_set()  # asked once more then
        try:
            last = _ask(paths, what)
            answered += 1
        except PrunectlError:
            refused += 1
    print(answered, refused, last)


def _ask(paths: StorePaths, what: str) -> int:
    """Ask once. Raises PrunectlError where there is no answer."""
    if what == "ask":
        [(found,)] = query.run(paths, SQL).rows
        return int(found)
    done = prunectl("sql", SQL, "--format", "csv", "--store", paths.root)
    if done.returncode:
        raise PrunectlError(done.stderr)
    return int(done.stdout.split()[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
