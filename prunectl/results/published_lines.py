"""The published curves that a figure shows in grey behind a board of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunectl.results.leaderboard import Board
from prunectl.results.publications import SOURCES
from prunectl.results.samples import (
    PUBLISHED_TASK,
    Sample,
    at_main_length,
    published,
    schedule_kind,
)
from prunectl.store.paths import StorePaths


@dataclass(frozen=True)
class Lines:
    """A publication's curves for the methods of a board."""

    source: str
    by_strategy: dict[str, list[Sample]]
    """Ascending in compression."""

    @property
    def note(self) -> str:
        """What the caption has to say of them: another rate per iteration changes what a sparsity costs."""
        steps = {s.prune_step for each in self.by_strategy.values() for s in each if s.prune_step}
        rates = ", ".join(f"{step:g}" for step in sorted(steps))
        return f" (iterative, {rates} per iteration)" if rates else ""


def lines(paths: StorePaths, board: Board, source: str | None) -> Lines | None:
    """Read the curves of `source` ("auto": of the first publication that has any); None where there are none."""
    unlike = board.task != PUBLISHED_TASK or any(row.granularity != "weight" for row in board.rows)
    if source is None or unlike:
        return None
    for name in SOURCES if source == "auto" else (source,):
        found = select(name, board, published(paths, name))
        if found.by_strategy:
            return found
    return None


def select(source: str, board: Board, theirs: Sequence[Sample]) -> Lines:
    """Select, for each strategy of the board, the one curve whose schedule is nearest to the board's."""
    kind, step = schedule_kind(board.schedule)
    place = (board.network, board.dataset, kind, "unstructured")
    alike = [s for s in theirs if (s.network, s.dataset, s.kind, s.structure) == place]
    out: dict[str, list[Sample]] = {}
    for strategy in dict.fromkeys(row.strategy for row in board.rows):
        curves: dict[tuple[str, float | None], list[Sample]] = {}
        for sample in at_main_length(alike):
            if sample.strategy == strategy:
                curves.setdefault((sample.label, sample.prune_step), []).append(sample)
        if curves:
            # Where a schedule states no rate it is taken for 0.2, that of Renda et al.
            label, rate = min(
                curves,
                key=lambda key: (abs((key[1] or 0.2) - (step or 0.2)), -len(curves[key]), key[0]),
            )
            out[strategy] = sorted(curves[label, rate], key=lambda sample: sample.sparsity)
    return Lines(source, out)
