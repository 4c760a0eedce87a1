"""A panel with curves. plotext is imported when the first one is drawn: that takes half a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from prunectl.tui.text import finite

COLOURS = (
    (97, 175, 239),
    (229, 192, 123),
    (152, 195, 121),
    (224, 108, 117),
    (198, 120, 221),
    (86, 182, 194),
)
"""RGB, to be told apart on dark and on light background."""
GREY = (120, 120, 120)


@dataclass(frozen=True)
class Series:
    """One curve; values that are no numbers are left out."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float | None, ...]
    dots: bool = False

    @property
    def points(self) -> list[tuple[float, float]]:
        """Those that can be drawn."""
        pairs = ((finite(x), finite(y)) for x, y in zip(self.xs, self.ys, strict=False))
        return [(x, y) for x, y in pairs if x is not None and y is not None]


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

    def __init__(self, plain: bool) -> None:
        """`plain` draws without braille."""
        super().__init__(id="curve")
        self._plain = plain
        self._picture: Picture | None = None
        self._plot: Any = None

    def compose(self) -> ComposeResult:
        yield Static("", classes="nothing")

    def draw(self, picture: Picture, title: str, note: str = "") -> None:
        """Show a picture, with texts on the edges."""
        drawn = [series for series in picture.series if series.points]
        self.border_title = Content(title)
        self.border_subtitle = Content("").join([*_legend(drawn), Content(note)])
        if picture == self._picture:
            return
        self._picture = picture
        nothing = self.query_one(".nothing", Static)
        nothing.display = not drawn
        nothing.update(Content(f" {picture.empty}"))
        if drawn and self._plot is None:
            from textual_plotext import PlotextPlot

            self._plot = PlotextPlot()
            self._plot.can_focus = False
            self.mount(self._plot)
        if self._plot is not None:
            self._plot.display = bool(drawn)
        if self._plot is not None and drawn:
            self._fill(self._plot.plt, picture, drawn)
            self._plot.refresh()

    def _fill(self, plt: Any, picture: Picture, drawn: Sequence[Series]) -> None:
        plt.clear_figure()
        plt.frame(False)
        for x, _ in picture.lines:
            plt.vline(x, GREY)
        line_marker, dot_marker = ("*", "o") if self._plain else ("braille", "dot")
        for number, series in enumerate(drawn):
            xs, ys = zip(*series.points, strict=True)
            colour = COLOURS[number % len(COLOURS)]
            draw = plt.scatter if series.dots or len(xs) == 1 else plt.plot
            marker = dot_marker if series.dots else line_marker
            draw(list(xs), list(ys), marker=marker, color=colour)
        if picture.ticks:
            places, names = zip(*picture.ticks, strict=True)
            plt.xticks(list(places), list(names))


def _legend(drawn: Sequence[Series]) -> list[Content]:
    """Return the names of several curves in their colours."""
    if len(drawn) < 2:
        return []
    return [
        Content.styled(f"{'∘' if s.dots else '━'} {s.label}  ", f"rgb{COLOURS[n % len(COLOURS)]}")
        for n, s in enumerate(drawn)
    ]
