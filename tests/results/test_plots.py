"""Figures show the table's numbers, say what they show, and come out the same every time."""

from pathlib import Path
from typing import get_args

import pytest

from prunectl.errors import ControlError, PrunectlError
from prunectl.results import figure_style, plots, published_lines
from prunectl.results.leaderboard import leaderboard
from prunectl.store.db.ingest import ingest
from tests.support.fake_store import FakeStore

LADDER = ("0.2", "0.36", "0.488", "0.5904", "0.67232")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    made = FakeStore(tmp_path_factory.mktemp("store"))
    made.plan("demo", strategies=("fine-tune", "lr-rewind", "reinit"), sparsities=LADDER)
    made.finish_all()
    made.plan("two", strategies=("fine-tune",), network="resnet-56", sparsities=LADDER[:1])
    made.finish_all()
    ingest(made.paths)
    return made.paths


def lines(figure, panel=0):
    """The lines of a panel by label."""
    found = figure.axes[panel].get_lines()
    return {
        str(line.get_label()): line for line in found if not str(line.get_label()).startswith("_")
    }


def caption(figure):
    return figure.texts[-1].get_text().replace("\n", " ")


def test_accuracy_is_the_tables_medians(paths):
    figure = plots.plot(paths, "demo", source=None)
    (board,) = leaderboard(paths, "demo")
    drawn = lines(figure)
    assert list(drawn) == ["lr-rewind", "fine-tune", "reinit"]
    for row in board.rows:
        cells = [row.cells[sparsity] for sparsity in board.columns]
        x, y = drawn[row.label].get_data()
        assert list(x) == [cell.values["compression"] for cell in cells]
        assert list(y) == [cell.values["median"] for cell in cells]
    assert "median" in caption(figure)
    assert "min–max" in caption(figure)
    assert "n = 3" in caption(figure)


def test_the_other_band_and_the_change_from_dense(paths):
    (board,) = leaderboard(paths, "demo")
    mean = lines(plots.plot(paths, "demo", band="std", source=None))
    change = plots.plot(paths, "demo", "delta", source=None)
    for row in board.rows:
        cells = [row.cells[sparsity] for sparsity in board.columns]
        assert list(mean[row.label].get_ydata()) == [cell.mean for cell in cells]
        assert list(lines(change)[row.label].get_ydata()) == [cell.delta for cell in cells]
    assert "95 % interval" in caption(change)


def test_cost_is_against_retraining_so_far(paths):
    drawn = lines(plots.plot(paths, "demo", "cost"))
    assert list(drawn["lr-rewind"].get_xdata()) == [3.0, 6.0, 9.0, 12.0, 15.0]


@pytest.mark.parametrize("prunable", [0, 2**53])
def test_counts_that_cannot_be_stop_no_figure(tmp_path, prunable):
    made = FakeStore(tmp_path)
    made.plan("demo", strategies=("fine-tune",), sparsities=LADDER)
    for key in made.stages:
        made.finish(key, kept=0, prunable=prunable, parameters=prunable, kept_parameters=0)
    ingest(made.paths)
    plots.save(plots.plot(made.paths, "demo", source=None), tmp_path / "figure.svg")


def test_compression_has_a_logarithmic_axis_with_powers_of_two(paths):
    axes = plots.plot(paths, "demo").axes[0]
    assert axes.get_xscale() == "log"
    ticks = [axes.xaxis.get_major_formatter()(tick, 0) for tick in axes.get_xticks()]
    assert ticks == ["1×", "2×", "4×"]


def test_layers_have_a_panel_per_method_and_all_their_names(paths):
    figure = plots.plot(paths, "demo", "layers")
    assert [axes.get_title().split(" · ")[-1] for axes in figure.axes if axes.get_visible()] == [
        row.label for row in leaderboard(paths, "demo")[0].rows
    ]
    assert list(lines(figure)) == [f"sparsity {float(sparsity):.4g}" for sparsity in LADDER]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][:2] == [
        "layer0",
        "layer1",
    ]


def test_published_lines_stand_in_grey_behind(paths):
    drawn = lines(plots.plot(paths, "demo"))
    theirs = drawn["lr-rewind, renda2020"]
    ours = drawn["lr-rewind"]
    assert theirs.get_zorder() < ours.get_zorder()
    assert float(theirs.get_color()) > 0.5
    (board,) = leaderboard(paths, "demo")
    found = published_lines.lines(paths, board, "renda2020")
    assert found is not None
    medians = {sample.sparsity: sample.median for sample in found.by_strategy["lr-rewind"]}
    # METHODS 3.1: ResNet-20, iterative, density 0.512, learning-rate rewinding at full length.
    assert medians[0.488] == pytest.approx(92.29, abs=0.01)


def test_what_is_not_published_has_nothing_behind(paths):
    (board,) = leaderboard(paths, "demo")
    assert published_lines.lines(paths, board, None) is None
    assert not published_lines.select("renda2020", board, []).by_strategy


def test_a_panel_for_each_board(paths):
    figure = plots.plot(paths, all_plans=True)
    titles = [axes.get_title() for axes in figure.axes]
    assert [title.split(" · ")[0] for title in titles] == ["resnet-20", "resnet-56"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_figure_is_the_same_file(paths, tmp_path, suffix):
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        plots.save(plots.plot(paths, "demo"), file)
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert len(first) > 5000
    assert b"2026" not in first[:2000]


def test_another_suffix_is_refused(paths, tmp_path):
    with pytest.raises(PrunectlError, match=r"allowed: \.png"):
        plots.save(plots.plot(paths, "demo"), tmp_path / "a.gif")


def test_nothing_to_draw_is_said(tmp_path):
    made = FakeStore(tmp_path)
    made.plan("demo")
    for kind in get_args(plots.Kind):
        with pytest.raises(ControlError, match="nothing to draw"):
            plots.plot(made.paths, "demo", kind)


def test_methods_differ_in_colour_marker_and_line(tmp_path: Path):
    known = [
        "fine-tune",
        "weight-rewind",
        "lr-rewind",
        "reinit",
        "weight-rewind-low-lr",
        "late",
        "x",
    ]
    styles = figure_style.styles(known)
    for part in ("colour", "marker", "dashes"):
        assert len({getattr(style, part) for style in styles.values()}) == len(known)
    assert figure_style.styles(["lr-rewind", "other"])["lr-rewind"] == styles["lr-rewind"]
    many = figure_style.styles(f"method {i}" for i in range(20))
    assert len({(s.colour, s.marker, s.dashes) for s in many.values()}) == 20


def test_a_users_settings_are_left_alone(paths):
    import matplotlib as mpl

    mpl.rcParams["font.size"] = 17
    try:
        plots.plot(paths, "demo")
        assert mpl.rcParams["font.size"] == 17
    finally:
        mpl.rcdefaults()
