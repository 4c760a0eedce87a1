"""Stopping a study whose first stages all end by the same error, instead of burning through the whole grid."""

from __future__ import annotations

from collections.abc import Iterable


def signature(reason: str, message: str, traceback: str) -> str:
    """What makes two failures the same: the reason and the exception's last line, numbers left out."""
    lines = (traceback or message).strip().splitlines()
    last = lines[-1] if lines else ""
    return f"{reason}: " + "".join(letter for letter in last if not letter.isdigit())


class EarlyStop:
    """Watches the first stages of each study in this run. Out of memory is no reason: it depends on neighbours."""

    def __init__(self, same: int = 3) -> None:
        self.same = same
        """How many different stages the same error has to end; 0 never stops."""
        self._alive: set[str] = set()
        self._failures: dict[str, dict[str, str]] = {}

    def succeeded(self, studies: Iterable[str]) -> None:
        """A stage of these studies is done: from now on failures are isolated ones."""
        self._alive.update(studies)

    def failed(self, studies: Iterable[str], stage: str, failure: str, reason: str) -> list[str]:
        """A stage failed (tried again or not); studies to stop now."""
        hopeless = []
        for study in studies:
            if study in self._alive or reason in ("oom", "nonfinite"):
                continue
            failures = self._failures.setdefault(study, {})
            failures[stage] = failure
            if self.same and len(failures) >= self.same and len(set(failures.values())) == 1:
                hopeless.append(study)
        return hopeless

    def forget(self, studies: Iterable[str]) -> None:
        """Begin again: somebody asked for a retry."""
        for study in studies:
            self._failures.pop(study, None)
