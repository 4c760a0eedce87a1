"""A panel with curves. plotext is imported when the first one is drawn: it takes half a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from prunectl.tui.text import finite

if TYPE_CHECKING:
    from prunectl.tui.app import Viewer

COLOURS = (
    (97, 175, 239),
    (229, 192, 123),
    (152, 195, 121),
    (224, 108, 117),
    (198, 120, 221),
    (86, 182, 194),
)
"""Told apart on dark and on light ground."""


@dataclass(frozen=True)
class Series:
    """One curve; values that are no numbers are left out."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float | None, ...]
    dots: bool = False


@dataclass(frozen=True)
class Picture:
    """What a panel shows."""

    series: tuple[Series, ...] = ()
    lines: tuple[tuple[float, str], ...] = ()
    """Vertical ones, with their names."""
    ticks: tuple[tuple[float, str], ...] = ()
    """Of the x axis; none: numbers."""
    empty: str = "No numbers yet."


class Curve(Container, can_focus=True):
    """A panel that draws a `Picture`, again only when it is another one."""

    def __init__(self, called: str) -> None:
        super().__init__(id=called)
        self._picture: Picture | None = None
        self._plot: Any = None

    def compose(self) -> Any:
        yield Static("", classes="nothing")

    def draw(self, picture: Picture, title: str, note: str = "") -> None:
        """Show it."""
        self.border_title = Content(title)
        self.border_subtitle = _key(picture, note)
        if picture == self._picture:
            return
        self._picture = picture
        drawn = [line for line in picture.series if _known(line)]
        nothing = self.query_one(".nothing", Static)
        nothing.display = not drawn
        if not drawn:
            nothing.update(Content(f" {picture.empty}"))
            if self._plot is not None:
                self._plot.display = False
            return
        if self._plot is None:
            from textual_plotext import PlotextPlot

            self._plot = PlotextPlot()
            self._plot.can_focus = False
            self.mount(self._plot)
        self._plot.display = True
        self._fill(self._plot.plt, picture, drawn)
        self._plot.refresh()

    def _fill(self, plt: Any, picture: Picture, drawn: Sequence[Series]) -> None:
        plain = self._viewer.plain_curves
        plt.clear_figure()
        plt.frame(False)
        for x, _ in picture.lines:
            plt.vline(x, (120, 120, 120))
        for number, line in enumerate(drawn):
            xs, ys = zip(*_known(line), strict=True)
            colour = COLOURS[number % len(COLOURS)]
            draw = plt.scatter if line.dots or len(xs) == 1 else plt.plot
            marker = ("o" if line.dots else "*") if plain else ("dot" if line.dots else "braille")
            draw(list(xs), list(ys), marker=marker, color=colour)
        if picture.ticks:
            places, names = zip(*picture.ticks, strict=True)
            plt.xticks(list(places), list(names))

    @property
    def _viewer(self) -> Viewer:
        from typing import cast

        return cast("Viewer", self.app)


def _key(picture: Picture, note: str) -> Content:
    """The names of the curves in their colours."""
    drawn = [line for line in picture.series if _known(line)]
    parts = [
        Content.styled(
            f"{'∘' if line.dots else '━'} {line.label}  ", f"rgb{COLOURS[n % len(COLOURS)]}"
        )
        for n, line in enumerate(drawn)
        if len(drawn) > 1
    ]
    return Content("").join([*parts, Content(note)])


def _known(line: Series) -> list[tuple[float, float]]:
    pairs = ((finite(x), finite(y)) for x, y in zip(line.xs, line.ys, strict=False))
    return [(x, y) for x, y in pairs if x is not None and y is not None]
