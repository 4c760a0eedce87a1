"""Methods × sparsities: the table of `prunectl rank`, what is behind a cell, and the curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from prunectl.errors import PrunectlError
from prunectl.monitor.snapshot import Snapshot, TrialView
from prunectl.tui.keymap import hint
from prunectl.tui.results_reader import Boards, SeedPoint
from prunectl.tui.rows import leaderboard as b
from prunectl.tui.rows.leaderboard import Line
from prunectl.tui.screens.base import View
from prunectl.tui.screens.dialogs import Choose
from prunectl.tui.widgets.curve import Curve, Picture
from prunectl.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from prunectl.results.leaderboard import Board

AGAIN_SECONDS = 2.0
"""Between two reads of the database."""
SUFFIXES = (".md", ".csv", ".tex", ".json", ".parquet")


class BoardsRead(Message):
    """The tables as they stand in the database."""

    def __init__(self, boards: Boards | None, trouble: str = "") -> None:
        super().__init__()
        self.boards = boards
        self.trouble = trouble


class SeedsRead(Message):
    """The seeds of a cell."""

    def __init__(self, cell: tuple[str, str, int], seeds: tuple[SeedPoint, ...]) -> None:
        super().__init__()
        self.cell = cell
        self.seeds = seeds


class Leaderboard(View):
    """The second view."""

    NAME = "Leaderboard"
    FOOTER = ("view.open", "view.filter", "leaderboard.delta", "leaderboard.mark", "leaderboard.export", "view.copy",
              "app.help", "app.quit")  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Trials", key_display="⏎", id="view.open",
                tooltip="Open the trials behind the cell"),
        Binding("d", "delta", "Δ/value", id="leaderboard.delta", tooltip="Changes from dense, or accuracies"),
        Binding("x", "mark", "Mark", id="leaderboard.mark", tooltip="Mark the method for the curves"),
        Binding("e", "export", "Export", id="leaderboard.export", tooltip="Write the table to a file"),
        Binding("y", "copy", "Copy", id="view.copy"),
        Binding("left_square_bracket", "step(-1)", "Table before", show=False, key_display="[",
                id="leaderboard.before"),
        Binding("right_square_bracket", "step(1)", "Next table", show=False, key_display="]",
                id="leaderboard.next"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.boards = Boards()
        self.at = 0
        """Which board is shown."""
        self.delta = False
        self.marked: dict[str, set[str]] = {}
        """Methods marked for the curves, by board."""
        self._seen: object = None
        self._seen_board = ""
        self._due = 0.0
        self._again = False
        self._reading = False
        self._read_once = False
        self._seeds: dict[tuple[str, str, int], tuple[SeedPoint, ...]] = {}
        self._fresh: set[tuple[str, str, int]] = set()
        """Cells whose seeds were asked for since the last read of the tables."""

    def content(self) -> ComposeResult:
        table: KeyedTable[Line] = KeyedTable(
            (), lambda line: line.key, called="board", title="Leaderboard", cells=True
        )
        table.empty = "Reading the results …"
        yield table
        yield Static("", id="cell", classes="panel")
        yield Curve("curve")

    def on_mount(self) -> None:
        """The table has the focus."""
        self.primary().focus()

    def on_screen_resume(self) -> None:
        """Show what came in meanwhile."""
        self.viewer.refresh_view(self)

    def resized(self) -> None:
        self._lay_out()

    # reading

    def show(self, snapshot: Snapshot) -> None:
        seen = (
            tuple((plan.digest, plan.stages_done) for plan in snapshot.plans),
            len(snapshot.failures),
        )
        if seen != self._seen:
            self._seen, self._again = seen, True
            self._read()

    def tick(self) -> None:
        super().tick()
        if self._again or self._due:
            self._read()

    def _read(self) -> None:
        """Read again, not too often; and once more a little later, for what the scheduler has yet to write."""
        now = self.viewer.clock()
        if self._reading or (self._due and now < self._due and not self._first):
            return
        if not self.viewer.reader.has_results and (
            self.snapshot is None or self.snapshot.scheduler.alive
        ):
            self._say("No results yet: the first stage that is done brings them.")
            return
        self._due = now + AGAIN_SECONDS if self._again else 0.0
        self._again = False
        self._reading = True
        self.run_worker(self._work, thread=True, group="boards", exit_on_error=False)

    @property
    def _first(self) -> bool:
        return not self.boards.boards

    def _work(self) -> None:
        try:
            self.post_message(BoardsRead(self.viewer.reader.boards()))
        except (PrunectlError, OSError) as error:
            self.post_message(BoardsRead(None, str(error)))

    def on_boards_read(self, message: BoardsRead) -> None:
        """Show the tables."""
        self._reading = False
        self._read_once = self._read_once or message.boards is not None
        if message.boards is None:
            if self._first:
                self._say(message.trouble)
            self._again = True
            return
        self.boards = message.boards
        self._fresh.clear()
        self._lay_out()

    def _say(self, text: str) -> None:
        table = self.primary()
        if table.empty != text:
            table.empty = text
            table.refresh()

    # showing

    @property
    def board(self) -> Board | None:
        """The one shown."""
        count = len(self.boards.boards)
        return self.boards.boards[min(self.at, count - 1)] if count else None

    def _lay_out(self) -> None:
        if not self.is_mounted:
            return
        table, board = self.primary(), self.board
        if board is None:
            table.apply((), ())
            table.describe("Leaderboard")
            if self._read_once:
                self._say("No finished cell yet. `prunectl run PLAN` fills this table.")
            self._show_cell()
            return
        wide = self.has_class("-wide")
        height = 2 if wide else 1
        shown = b.lines(board, self.boards, self.marked.get(board.title, ()))
        columns = b.columns(board, wide=wide, delta=self.delta)
        if table.row_height != height:
            table.row_height = height
        table.apply(shown, columns)
        table.describe(
            b.title(board, self.at, len(self.boards.boards), self.delta),
            b.legend(board, self.boards),
        )
        if wide:
            needed = len(shown) * height + 3
            table.styles.height = min(needed, max(8, self.size.height - 22))
        else:
            table.styles.height = "1fr"
        if self._seen_board != board.title:
            self._seen_board = board.title
            table.move_to(1 if len(table.rows) > 1 else 0)
        self._show_cell()

    def on_keyed_table_moved(self, message: KeyedTable.Moved) -> None:
        """Say what is behind the cell under the cursor."""
        self._show_cell()

    def _show_cell(self) -> None:
        panel = self.query_one("#cell", Static)
        table, board = self.primary(), self.board
        line = table.item
        column = table.current_column
        found = b.chosen(line, board, column.name if column else None) if board else None
        if board is None or line is None or found is None:
            panel.border_title = Content("Cell")
            panel.update(Content(" Nothing measured here yet."))
        else:
            sparsity, cell = found
            key = (board.plan, cell.cell, cell.iteration)
            seeds = self._seeds.get(key)
            panel.border_title = Content(
                line.label if line.reference else f"{line.label} @ {sparsity:.4g}"
            )
            panel.update(Content("\n".join(b.words(line, sparsity, cell, seeds or ()))))
            if key not in self._fresh:
                self._fresh.add(key)
                self._ask_seeds(key)
        self._show_curve(board, line)

    def _show_curve(self, board: Board | None, line: Line | None) -> None:
        if not self.has_class("-wide") and self.maximized is None:
            return
        curve = self.query_one(Curve)
        if board is None:
            curve.draw(Picture(empty="No finished cell yet."), "Curves")
            return
        mark = hint("leaderboard.mark", "x")
        note = "marked methods" if self.marked.get(board.title) else f"{mark}: mark methods"
        curve.draw(
            b.picture(board, self.primary().items, line), "accuracy % against sparsity", note
        )

    def _ask_seeds(self, key: tuple[str, str, int]) -> None:
        def work() -> None:
            try:
                self.post_message(SeedsRead(key, self.viewer.reader.seeds(*key)))
            except (PrunectlError, OSError):
                return  # the words without them are enough until the next read

        self.run_worker(work, thread=True, group="seeds", exclusive=True, exit_on_error=False)

    def on_seeds_read(self, message: SeedsRead) -> None:
        """Show the seeds."""
        self._seeds[message.cell] = message.seeds
        self._show_cell()

    # keys

    def chosen_trials(self) -> list[TrialView]:
        board, line = self.board, self.primary().item
        column = self.primary().current_column
        if board is None or line is None or self.snapshot is None:
            return []
        found = b.chosen(line, board, column.name if column else None)
        if line.reference:
            names = ("network", "dataset", "recipe")
            seen: dict[str, TrialView] = {}
            for view in self.snapshot.trials:
                if view.plan == board.plan and all(
                    view.labels.get(n) == getattr(board, n) for n in names
                ):
                    seen.setdefault(view.path[0], view)
            return list(seen.values())
        if found is None:
            return []
        return [v for v in self.snapshot.trials if v.cell == found[1].cell and v.plan == board.plan]

    def action_open(self) -> None:
        """Open the trials behind the cell."""
        trials = [view.trial for view in self.chosen_trials()]
        if trials:
            self.viewer.open_trial(trials[0], trials)

    def on_keyed_table_opened(self, message: KeyedTable.Opened) -> None:
        """Enter, or a click on the cell under the cursor."""
        self.action_open()

    def action_delta(self) -> None:
        """Changes from dense, or accuracies."""
        self.delta = not self.delta
        self._lay_out()

    def action_mark(self) -> None:
        """Mark the method for the curves, or take the mark off."""
        board, line = self.board, self.primary().item
        if board is None or line is None or line.reference:
            return
        self.marked.setdefault(board.title, set()).symmetric_difference_update({line.key})
        self._lay_out()

    def action_step(self, step: int) -> None:
        """Another network, data set, recipe, schedule or plan."""
        count = len(self.boards.boards)
        if count > 1:
            self.at = (self.at + step) % count
            self._lay_out()

    def copies(self) -> list[tuple[str, str]]:
        from prunectl.results import formats

        out = super().copies()
        if self.board is not None:
            table = self.board.table(delta=self.delta)
            whole = [
                (f"whole table as {form}", formats.render(table, form))
                for form in ("md", "csv", "latex")
            ]
            out = [item for item in out if not item[0].startswith("table as")] + whole
        return out

    def action_export(self) -> None:
        """Write the table to a file of the folder that prunectl was called in."""
        from prunectl.results import formats

        board = self.board
        if board is None:
            self.notify("There is no table yet.", severity="warning")
            return
        stem = "-".join(
            part.replace(" ", "") for part in (board.plan, board.network, board.dataset)
        )
        files = [Path.cwd() / f"{stem}{suffix}" for suffix in SUFFIXES]

        def chosen(index: int | None) -> None:
            if index is None:
                return
            try:
                formats.save(board.table(delta=self.delta), files[index])
            except (PrunectlError, OSError) as error:
                self.notify(str(error), severity="error", markup=False)
            else:
                self.notify(f"Written: {files[index]}", markup=False)

        self.viewer.push_screen(Choose("Write the table to", [str(file) for file in files]), chosen)
