"""The errors a user can meet, and the exit codes they end with.

    PrunectlError
    ├── PlanError         a mistake in a plan
    ├── UnknownName       a name that no registry holds
    ├── DataError         data files are missing or not what they claim to be
    │   └── MissingData   they are not there
    ├── NetworkMisfit     a network that cannot take the data's images
    ├── StoreError        the store cannot be read, written or trusted
    │   ├── StoreBusy     another process holds it
    │   └── DiskError     the system refuses to read or write
    ├── QueryError        SQL that the database refuses
    │   └── NoStatement   SQL that says nothing
    └── ControlError      a request that names nothing, or comes at the wrong time

Everything else that reaches the top is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of every command."""

    OK = 0
    TRIAL_FAILED = 1
    USAGE = 2
    STORE = 3
    NOT_REPLICATED = 4
    INTERRUPTED = 130


class PrunectlError(Exception):
    """Base of all errors that the user gets as a message instead of a traceback."""

    exit_code: ExitCode = ExitCode.USAGE


SHOWN = 200
"""Characters that are shown of what was found, which may be a whole list or a file."""


def shown(found: object) -> str:
    """Write what was found, cut after `SHOWN` characters."""
    text = str(found)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} …"


def nearest(found: str, allowed: Iterable[str]) -> str | None:
    """Find the allowed name most like `found`; None where nothing is near."""
    if len(found) > SHOWN:  # it is no name, and comparing it takes seconds
        return None
    matches = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


class PlanError(PrunectlError):
    """A mistake in a plan: where it stands, what was found, what is allowed.

    `line` is 1-based and None where it is not known; `key` is dotted, as in ``pruning.schedule.rate``.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        found: object = None,
        allowed: Iterable[str] = (),
        suggestion: str | None = None,
    ) -> None:
        self.message = message
        self.file = file
        self.line = line
        self.key = key
        self.found = found
        self.allowed = tuple(allowed)
        if suggestion is None and isinstance(found, str) and self.allowed:
            suggestion = nearest(found, self.allowed)
        self.suggestion = suggestion
        super().__init__(message)

    def at(self, file: str | None, line: int | None) -> PlanError:
        """Copy the error with its place filled in where it was not known."""
        return PlanError(
            self.message,
            file=self.file or file,
            line=self.line or line,
            key=self.key,
            found=self.found,
            allowed=self.allowed,
            suggestion=self.suggestion,
        )

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = f"{place}: " if place else ""
        if self.key:
            text += f"{self.key}: "
        text += self.message
        if self.found is not None:
            text += f"\n  found:   {shown(self.found)}"
        if self.allowed:
            text += f"\n  allowed: {', '.join(self.allowed)}"
        if self.suggestion:
            text += f"\n  did you mean: {self.suggestion}"
        return text


class UnknownName(PrunectlError):
    """A name of some kind (network, data set, criterion, …) that is not in its registry."""

    def __init__(self, kind: str, found: str, allowed: Iterable[str], note: str = "") -> None:
        """`note` is added in lines of its own, and says more than the nearest name would."""
        self.kind = kind
        self.found = found
        self.allowed = tuple(allowed)
        near = None if note else nearest(found, self.allowed)
        text = f"unknown {kind} {shown(repr(found))}; allowed: {', '.join(self.allowed)}"
        if near:
            text += f"; did you mean {near!r}?"
        super().__init__("\n".join(filter(None, [text, note])))


class DataError(PrunectlError):
    """Data files are missing, unreadable, or not what they claim to be."""


class MissingData(DataError):
    """Data files are not where they are looked for."""


class NetworkMisfit(PrunectlError):
    """A network that cannot take the data's images or does not give the outputs asked for."""

    def __init__(self, message: str, fits: tuple[int, int, int] | None = None) -> None:
        """`fits` is the shape nearest to the images' (channels, height, width) that the network takes, where one is
        known."""
        self.fits = fits
        super().__init__(message)


class StoreError(PrunectlError):
    """The store cannot be read, written or trusted."""

    exit_code = ExitCode.STORE


class StoreBusy(StoreError):
    """Another process holds what this one needs."""


class DiskError(StoreError):
    """The system refuses to read or write: a full, read-only or failing disk, no permission, too many open files.

    No fault of what was to be read or written, which is neither damaged nor set aside; others would fail alike, so that
    a run ends, and goes on once that is mended.
    """


class QueryError(StoreError):
    """SQL that the database refuses, with its message and position."""


class NoStatement(QueryError):
    """SQL without any statement: nothing, or comments alone."""

    exit_code = ExitCode.USAGE


class ControlError(PrunectlError):
    """A request to a scheduler that names nothing or comes at the wrong time."""
