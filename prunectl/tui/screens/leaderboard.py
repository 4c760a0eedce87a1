"""Methods × sparsities: the table of `prunectl rank`, what is behind a cell, and the curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from prunectl.monitor.snapshot import Snapshot, TrialView
from prunectl.results.metrics import title
from prunectl.tui.keymap import hint
from prunectl.tui.results_reader import Boards, SeedPoint, SeedsKey
from prunectl.tui.rows import claims
from prunectl.tui.rows import leaderboard as rows
from prunectl.tui.rows.leaderboard import MethodRow
from prunectl.tui.screens.base import Copies, View
from prunectl.tui.screens.claims import Claims
from prunectl.tui.screens.trial import TrialScreen
from prunectl.tui.widgets.curve import Curve, Picture
from prunectl.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from prunectl.results.board_cell import Cell
    from prunectl.results.leaderboard import Board

AGAIN_SECONDS = 2.0
"""Between two reads of the database."""
SUFFIXES = (".md", ".csv", ".tex", ".json", ".parquet")


class Leaderboard(View):
    """The second view."""

    NAME = "Leaderboard"
    PRIMARY = "board"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Trials", key_display="⏎", id="view.open",
                tooltip="Open the trials behind the cell"),
        Binding("d", "delta", "Δ/value", id="leaderboard.delta", tooltip="Changes from dense, or scores"),
        Binding("x", "mark", "Mark", id="leaderboard.mark", tooltip="Mark the method for the curves"),
        Binding("v", "claims", "What the plan claims, and what its results say", show=False,
                id="leaderboard.claims"),
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
        """Show changes from dense instead of scores."""
        self.marked: dict[str, set[str]] = {}
        """Methods marked for the curves, by board."""
        self._seen: object = None
        self._seen_board = ""
        self._due = 0.0
        """When the database may be read once more; 0: not before something changes."""
        self._changed = False
        self._reading = False
        self._seeds: dict[SeedsKey, tuple[SeedPoint, ...]] = {}
        self._asked: set[SeedsKey] = set()
        """Cells whose seeds were read since the last read of the tables."""

    def content(self) -> ComposeResult:
        yield KeyedTable[MethodRow](
            (), id="board", title="Leaderboard", cells=True, empty="Reading the results …"
        )
        yield Static("", id="cell", classes="panel")
        yield Curve(self.viewer.plain_curves)

    def on_mount(self) -> None:
        """Focus the table."""
        self.panel("board").focus()

    def resized(self) -> None:
        self._lay_out()

    # reading

    def show(self, snapshot: Snapshot) -> None:
        done = tuple((plan.digest, plan.stages_done) for plan in snapshot.plans)
        seen = (done, len(snapshot.failures))
        if seen != self._seen:
            self._seen, self._changed = seen, True
            self._read()

    def tick(self) -> None:
        super().tick()
        if self._changed or self._due:
            self._read()

    def _read(self) -> None:
        """Read again, not too often; and once more a little later, for what the scheduler has yet to write."""
        now = self.viewer.clock()
        if self._reading or (self.boards.boards and self._due and now < self._due):
            return
        # Opening the database creates it, which is left to a live scheduler: it does so with the first result.
        nobody_writes = self.snapshot is not None and not self.snapshot.scheduler.alive
        if not self.viewer.reader.has_results and not nobody_writes:
            self._say("No results yet: the first stage that is done brings them.")
            return
        self._due = now + AGAIN_SECONDS if self._changed else 0.0
        self._changed = False
        self._reading = True
        self.read(self.viewer.reader.boards, self._show_boards, self._read_failed, group="boards")

    def _show_boards(self, boards: Boards) -> None:
        self._reading = False
        self.boards = boards
        if not boards.boards:
            self._say("No finished cell yet. `prunectl run PLAN` fills this table.")
        self._asked.clear()
        self._lay_out()

    def _read_failed(self, text: str) -> None:
        self._reading, self._changed = False, True
        if not self.boards.boards:
            self._say(text)

    def _say(self, text: str) -> None:
        table = self.panel("board")
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
        if not self.ready:
            return
        table, board = self.panel("board"), self.board
        if board is None:
            table.apply((), ())
            table.describe("Leaderboard")
        else:
            self._fill(table, board)
        self._show_cell()

    def _fill(self, table: KeyedTable[MethodRow], board: Board) -> None:
        wide = self.has_class("-wide")
        methods = rows.method_rows(board, self.boards, self.marked.get(board.title, ()))
        table.row_height = 2 if wide else 1
        table.apply(methods, rows.board_columns(board, wide=wide, delta=self.delta))
        title = rows.title(board, self.at, len(self.boards.boards), self.delta)
        judged = claims.summary(self.boards.claims_of(board))
        keys = f"{hint('leaderboard.claims', 'v')} " if judged else ""
        table.describe(title, "  ".join(filter(None, (keys + judged, rows.legend(board, methods)))))
        # 22 lines remain for the header, the footer, the cell and a curve that can be read.
        needed = 2 * len(methods) + 3
        table.styles.height = min(needed, max(8, self.size.height - 22)) if wide else "1fr"
        if self._seen_board != board.title:
            self._seen_board = board.title
            # The first method, which is below the dense network.
            table.move_to(1 if len(table.rows) > 1 else 0)

    def on_keyed_table_moved(self, message: KeyedTable.Moved) -> None:
        """Show what is behind the cell under the cursor."""
        self._show_cell()

    def _under_cursor(self) -> tuple[float, Cell] | None:
        table = self.panel("board")
        column = table.current_column
        return rows.cell_at(table.item, self.board, column.name if column else None)

    def _show_cell(self) -> None:
        panel, board = self.query_one("#cell", Static), self.board
        row, found = self.panel("board").item, self._under_cursor()
        if board is None or row is None or found is None:
            panel.border_title = Content("Cell")
            panel.update(Content(" Nothing measured here yet."))
        else:
            sparsity, cell = found
            key = (board.plan, board.version, cell.cell, cell.iteration)
            panel.border_title = Content(
                row.key if row.reference else f"{row.key} @ {sparsity:.4g}"
            )
            lines = rows.cell_text(row, sparsity, cell, self._seeds.get(key, ()))
            notes = [board.demonstration] if board.demonstration else []
            panel.update(Content("\n".join([*lines, *notes])))
            if key not in self._asked:
                self._asked.add(key)
                self._read_seeds(key)
        self._show_curve(board, row)

    def _show_curve(self, board: Board | None, row: MethodRow | None) -> None:
        if not self.has_class("-wide") and self.maximized is None:
            return
        curve = self.query_one(Curve)
        if board is None:
            curve.draw(Picture(empty="No finished cell yet."), "Curves")
            return
        marked = self.marked.get(board.title)
        note = "marked methods" if marked else f"{hint('leaderboard.mark', 'x')}: mark methods"
        picture = rows.picture(board, self.panel("board").items, row)
        curve.draw(picture, f"{title(board.metric)} against sparsity", note)

    def _read_seeds(self, key: SeedsKey) -> None:
        def show(seeds: tuple[SeedPoint, ...]) -> None:
            self._seeds[key] = seeds
            self._show_cell()

        # Where it fails, the cell's text without its seeds is enough until the next read.
        self.read(lambda: self.viewer.reader.seeds(key), show, group="seeds", exclusive=True)

    # keys

    def chosen_trials(self) -> list[TrialView]:
        board, row, found = self.board, self.panel("board").item, self._under_cursor()
        if board is None or row is None or self.snapshot is None:
            return []
        trials = [view for view in self.snapshot.trials if view.trial.plan == board.plan]
        if row.reference:
            names = ("network", "dataset", "recipe")
            mine = {name: getattr(board, name) for name in names}
            first: dict[str, TrialView] = {}
            for view in trials:
                if mine == {name: view.trial.labels.get(name) for name in names}:
                    first.setdefault(view.trial.path[0], view)
            return list(first.values())
        if found is None:
            return []
        cell = found[1]
        if cell.values["selected"]:  # it has no trials of its own
            seeds = self._seeds.get((board.plan, board.version, cell.cell, cell.iteration), ())
            picked = {point.trial for point in seeds}
            return [view for view in trials if view.trial.id in picked]
        return [view for view in trials if view.trial.cell == cell.cell]

    def action_open(self) -> None:
        """Open the trials behind the cell."""
        trials = [view.trial.id for view in self.chosen_trials()]
        if trials:
            self.app.push_screen(TrialScreen(trials[0], trials))

    def action_delta(self) -> None:
        """Show changes from dense, or scores."""
        self.delta = not self.delta
        self._lay_out()

    def action_mark(self) -> None:
        """Mark the method for the curves, or take the mark off."""
        board, row = self.board, self.panel("board").item
        if board is not None and row is not None and not row.reference:
            self.marked.setdefault(board.title, set()).symmetric_difference_update({row.key})
            self._lay_out()

    def action_claims(self) -> None:
        """Show what the plan claims, with verdicts."""
        board = self.board
        found = self.boards.claims_of(board) if board is not None else []
        if board is None or not found:
            text = "This plan claims nothing: [[claims]] in its file, before it is run."
            self.notify(text, severity="warning", markup=False)
        else:
            from prunectl.results.judged import HOW_JUDGED

            title = f"{board.plan}: {claims.summary(found)}"
            self.app.push_screen(Claims(title, claims.claim_lines(found), HOW_JUDGED))

    def action_step(self, step: int) -> None:
        """Show another network, data set, recipe, schedule, plan or version of it."""
        count = len(self.boards.boards)
        if count > 1:
            self.at = (self.at + step) % count
            self._lay_out()

    def copies(self) -> Copies:
        from prunectl.results.formats import render

        out = super().copies()
        if self.board is None:
            return out
        table = self.board.table(delta=self.delta)
        whole = [(f"whole table as {form}", render(table, form)) for form in ("md", "csv", "latex")]
        return [item for item in out if not item[0].startswith("table as")] + whole

    def action_export(self) -> None:
        """Write the table to a file."""
        board = self.board
        if board is None:
            self.notify("There is no table yet.", severity="warning")
            return
        parts = (board.plan_title, board.network, board.dataset)
        stem = "-".join(part.replace(" ", "") for part in parts)
        self.export(board.table(delta=self.delta), "table", stem, SUFFIXES)
