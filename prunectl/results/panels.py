"""What the panels of a figure hold: which boards share one, and how their methods are called and drawn there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunectl.results import figure_style
from prunectl.results.figure_style import Style
from prunectl.results.leaderboard import Board, BoardRow


@dataclass(frozen=True)
class Panel:
    """One panel: boards that differ in nothing but their schedule."""

    boards: tuple[Board, ...]

    @property
    def board(self) -> Board:
        """One of them: what is said of it holds for all, but for the schedule and the rows."""
        return self.boards[0]

    @property
    def rows(self) -> list[tuple[str, str, BoardRow]]:
        """All methods, with their schedules and the names that the legend has for them."""
        return [
            (self._name(row, board), board.schedule, row)
            for board in self.boards
            for row in board.rows
        ]

    def _name(self, row: BoardRow, board: Board) -> str:
        return row.label if len(self.boards) == 1 else f"{row.label} · {board.schedule}"

    def title(self, boards: Sequence[Board]) -> str:
        """Name what it shows: network, data set, schedule; recipe and plan where the figure's boards differ in them."""
        names = ["network", "dataset", *(["schedule"] if len(self.boards) == 1 else [])]
        names += [
            each for each in ("recipe", "plan_title") if len({getattr(b, each) for b in boards}) > 1
        ]
        return " · ".join(getattr(self.board, name) for name in names)


def panels(boards: Sequence[Board], *, shared: bool) -> list[Panel]:
    """Make a panel for each board; `shared`: for all boards that differ in their schedule alone."""
    groups: dict[tuple[str | int, ...], list[Board]] = {}
    for at, board in enumerate(boards):
        what = (board.plan, board.version, board.network, board.dataset, board.recipe, board.task)
        groups.setdefault(what if shared else (at,), []).append(board)
    return [Panel(tuple(group)) for group in groups.values()]


def styles(made: Sequence[Panel]) -> dict[str, Style]:
    """Give each method a style, by its name in the legend and in the legend's order.

    Of a method that is drawn with several schedules, colour and shape say the method, and line and filling the
    schedule.
    """
    named = {name: (row.label, schedule) for panel in made for name, schedule, row in panel.rows}
    if all(name == label for name, (label, _) in named.items()):
        return figure_style.styles(named)
    methods = figure_style.styles(label for label, _ in named.values())
    schedules = list(dict.fromkeys(schedule for _, schedule in named.values()))
    order = list(methods)
    names = sorted(
        named, key=lambda name: (order.index(named[name][0]), schedules.index(named[name][1]))
    )
    return {
        name: methods[label].of_schedule(schedules.index(schedule))
        for name in names
        for label, schedule in [named[name]]
    }
