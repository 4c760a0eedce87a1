"""Checking plans against their networks without torch: what networks are made of is remembered, or asked of a child.

Importing torch takes a second or more and 500 MB, which stay until a process ends. So a child process makes summaries
of networks, and they are kept in the user's cache, under all that they depend on.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

import msgspec

from prunectl import ml
from prunectl.child import module_command
from prunectl.errors import NetworkMisfit, PrunectlError, StoreError
from prunectl.ml.datasets.files import user_cache
from prunectl.ml.network_summary import Answer, NetworkSummary, Question
from prunectl.spec.key import to_json
from prunectl.spec.settings import NetworkSettings
from prunectl.store.files import write_text
from prunectl.store.records.base import NOT_DECODED
from prunectl.version import code_hash

COMMAND = module_command("prunectl.ml.summarise")
LAST_LINES = 3
"""Lines of the child's stderr that are shown where it breaks off."""


class NetworkCheck(contextlib.ExitStack):
    """Summarises networks: a `plan.levels.Check`, to be used in a `with` block.

    The child is started for the first network that is not remembered, and ends with the block.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Question, NetworkSummary] = {}
        self._child: _Child | None = None

    def __call__(self, network: NetworkSettings, *, readers: bool = False) -> NetworkSummary:
        """Return a summary. Raises what `ml.summarise.examine` raises, and PrunectlError where the child breaks off."""
        question = Question(network, readers=readers)
        if question not in self._known:
            self._known[question] = self._summary(question)
        return self._known[question]

    def _summary(self, question: Question) -> NetworkSummary:
        # What cannot be read or written costs the time of making it again: no reason to refuse a plan.
        # RuntimeError: there is no home folder.
        with contextlib.suppress(OSError, RuntimeError, *NOT_DECODED):
            return msgspec.json.decode(
                remembered("networks", to_json(question)).read_bytes(), type=NetworkSummary
            )
        if self._child is None:
            self._child = self.enter_context(_child())
        summary = self._child.ask(question)
        with contextlib.suppress(StoreError, RuntimeError):
            write_text(
                remembered("networks", to_json(question)), msgspec.json.encode(summary).decode()
            )
        return summary


@dataclass(frozen=True)
class _Child:
    """The process `ml.summarise`; what it says besides goes to a file, so that no full pipe stops it."""

    process: subprocess.Popen[bytes]
    stderr: IO[bytes]

    def ask(self, question: Question) -> NetworkSummary:
        """Get the summary. Raises NetworkMisfit, and PrunectlError where the process breaks off."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = b""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(msgspec.json.encode(question) + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except NOT_DECODED:
            raise PrunectlError(self._broken_off()) from None
        if answer.summary is None:
            raise NetworkMisfit(answer.misfit, answer.fits)
        return answer.summary

    def _broken_off(self) -> str:
        """Say how the process ended and what it said last."""
        self.process.communicate()
        self.stderr.seek(0)
        said = self.stderr.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        ended = f"the process that looks at networks ended (status {self.process.returncode})"
        return "\n  ".join([f"{ended}:" if said else ended, *said])


@contextlib.contextmanager
def _child() -> Iterator[_Child]:
    """Start the process; it ends with its stdin, at the end of the block."""
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=stderr) as process,
    ):
        yield _Child(process, stderr)


def remembered(kind: str, *content: str) -> Path:
    """Return the file of the user's cache that is for this content, this code and these versions.

    Raises RuntimeError where the user has no home.
    """
    versions = [metadata.version(package) for package in ("torch", "torchvision")]
    parts = [*content, code_hash(Path(ml.__path__[0])), *versions]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return user_cache() / kind / f"{name}.json"
