"""Figures show the table's numbers, say what they show, and come out the same every time."""

from pathlib import Path
from typing import get_args

import pytest
from matplotlib.collections import PolyCollection

from prunectl.cli.plot import Behind
from prunectl.errors import ControlError, PrunectlError
from prunectl.results import figure_style, plots, published_lines
from prunectl.results.leaderboard import leaderboard
from prunectl.results.publications import SOURCES
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


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One-shot and iterative pruning in one plan."""
    made = FakeStore(tmp_path_factory.mktemp("both"))
    schedules = ("one-shot", "iterative 0.2")
    made.plan("demo", schedule=schedules, sparsities=LADDER[:3], network=("resnet-20", "resnet-56"))
    made.finish_all()
    ingest(made.paths)
    return made.paths


def bands(figure, panel=0):
    """The bands of a panel, as the lowest and highest ends that they reach at each place."""
    out = []
    for band in figure.axes[panel].collections:
        if isinstance(band, PolyCollection):
            ends = {}
            for x, y in band.get_paths()[0].vertices:
                ends.setdefault(x, []).append(y)
            out.append({x: (min(ys), max(ys)) for x, ys in ends.items()})
    return out


def test_scores_are_means_with_their_intervals(paths):
    figure = plots.plot(paths, "demo", source=None)
    (board,) = leaderboard(paths, "demo")
    drawn = lines(figure)
    assert list(drawn) == ["lr-rewind", "fine-tune", "reinit"]
    rows = {row.label: row for row in board.rows}
    for label, band in zip(drawn, bands(figure), strict=True):
        cells = [rows[label].cells[sparsity] for sparsity in board.columns]
        x, y = drawn[label].get_data()
        assert list(x) == [cell.values["compression"] for cell in cells]
        assert list(y) == [cell.mean for cell in cells]
        assert band == {
            cell.values["compression"]: pytest.approx((cell.mean - cell.ci, cell.mean + cell.ci))
            for cell in cells
        }
    assert "mean of the seeds" in caption(figure)
    assert "band: 95 % interval of the mean over the seeds (Student's t); n = 3" in caption(figure)


def test_the_other_bands_and_the_change_from_dense(paths):
    (board,) = leaderboard(paths, "demo")
    mean = lines(plots.plot(paths, "demo", band="std", source=None))
    middle = plots.plot(paths, "demo", band="min-max", source=None)
    change = plots.plot(paths, "demo", "delta", source=None)
    for row in board.rows:
        cells = [row.cells[sparsity] for sparsity in board.columns]
        assert list(mean[row.label].get_ydata()) == [cell.mean for cell in cells]
        medians = [cell.values["median"] for cell in cells]
        assert list(lines(middle)[row.label].get_ydata()) == medians
        assert list(lines(change)[row.label].get_ydata()) == [cell.delta for cell in cells]
    assert "median" in caption(middle)
    assert "min–max" in caption(middle)
    assert "95 % interval" in caption(change)


def with_seeds(folder, seeds, sparsities=LADDER, accuracy=lambda seed: 90.0 + seed):
    made = FakeStore(folder)
    made.plan("demo", strategies=("fine-tune",), sparsities=sparsities, seeds=seeds)
    for key in made.stages:
        stage = made.stages[key]["spec"]["stage"]
        made.finish(key, accuracy=accuracy(stage["seed"]) - stage.get("iteration", 0))
    ingest(made.paths)
    return made.paths


@pytest.mark.parametrize("kind", ["score", "delta", "cost", "macs"])
def test_one_seed_has_no_band(tmp_path, kind):
    figure = plots.plot(with_seeds(tmp_path, 1), "demo", kind, source=None)
    assert bands(figure) == []
    assert len(figure.axes[0].collections) == 0
    assert "none of one seed; n = 1" in caption(figure)


def test_the_wide_intervals_of_two_seeds_leave_the_lines_readable(tmp_path):
    """Half the interval is 12.7 standard errors: the lines keep a quarter of the height, and the caption tells."""
    figure = plots.plot(with_seeds(tmp_path, 2, accuracy=lambda seed: 80 + seed), source=None)
    low, high = figure.axes[0].get_ylim()
    drawn = lines(figure)["fine-tune"].get_ydata()
    assert low < min(drawn) < max(drawn) < high
    assert max(drawn) - min(drawn) > (high - low) / 4
    assert max(end for _, end in bands(figure)[0].values()) > high
    assert "cut off at the frame" in caption(figure)


def test_percentages_end_at_a_hundred(tmp_path):
    figure = plots.plot(with_seeds(tmp_path, 2, accuracy=lambda seed: 99 + seed), source=None)
    assert 100 < figure.axes[0].get_ylim()[1] < 101


def test_a_sparsity_alone_has_a_bar(tmp_path):
    figure = plots.plot(with_seeds(tmp_path, 3, sparsities=("0.5",)), source=None)
    assert bands(figure) == []
    [bar] = figure.axes[0].collections
    [[(_, low), (_, high)]] = bar.get_segments()
    (board,) = leaderboard(with_seeds(tmp_path / "again", 3, sparsities=("0.5",)))
    cell = board.rows[0].cells[0.5]
    assert (low, high) == pytest.approx((cell.mean - cell.ci, cell.mean + cell.ci))


def test_cost_is_all_training_so_far(paths):
    drawn = lines(plots.plot(paths, "demo", "cost"))
    assert list(drawn["lr-rewind"].get_xdata()) == [6.0, 9.0, 12.0, 15.0, 18.0]


def test_over_costs_one_shot_and_iterative_share_a_panel(both):
    schedules = ["iterative 0.2", "one-shot"]
    names = [f"{name} · {each}" for name in ("lr-rewind", "fine-tune") for each in schedules]
    for kind in ("cost", "macs"):
        figure = plots.plot(both, "demo", kind)
        assert [axes.get_title() for axes in figure.axes] == [
            "resnet-20 · cifar10",
            "resnet-56 · cifar10",
        ]
        for panel in (0, 1):
            drawn = lines(figure, panel)
            assert list(drawn) == names
            # Colour and shape are the method's; line and filling tell the schedules apart, also in greyscale.
            for name in ("lr-rewind", "fine-tune"):
                a, b = (drawn[f"{name} · {each}"] for each in schedules)
                assert (a.get_color(), a.get_marker()) == (b.get_color(), b.get_marker())
                assert a.get_linestyle() != b.get_linestyle()
                assert a.get_markerfacecolor() != b.get_markerfacecolor()
    assert len(plots.plot(both, "demo").axes) == 4


def test_what_costs_the_same_stands_side_by_side(both):
    """The networks of one-shot pruning: their places are those of the numbers, but for some points aside."""
    figure = plots.plot(both, "demo", "cost")
    figure.draw_without_rendering()
    drawn = lines(figure)
    places = []
    for name in ("lr-rewind · one-shot", "fine-tune · one-shot"):
        assert list(drawn[name].get_xdata()) == [6.0] * 3
        places.append(drawn[name].get_transform().transform((6.0, 90.0))[0])
    middle = figure.axes[0].transData.transform((6.0, 90.0))[0]
    assert sum(places) / 2 == pytest.approx(middle)
    assert abs(places[0] - places[1]) > 5
    assert "side by side" in caption(figure)


def test_the_frame_of_a_cost_is_that_of_its_numbers(tmp_path):
    """Whatever is moved aside is moved after the axes know their limits."""
    made = FakeStore(tmp_path)
    made.plan("demo", schedule=("one-shot", "iterative 0.2"), sparsities=LADDER, seeds=1)
    made.finish_all()
    ingest(made.paths)
    left, right = plots.plot(made.paths, "demo", "cost").axes[0].get_xlim()
    assert (left, right) == pytest.approx((6 - 1.2, 18 + 1.2))


def test_speedup_is_theoretical(both):
    figure = plots.plot(both, "demo", "macs")
    board = leaderboard(both, "demo", network="resnet-20")[0]
    drawn = lines(figure)
    for row in board.rows:
        cells = [row.cells[sparsity].values for sparsity in board.columns]
        expected = [cell["macs_dense"] / cell["macs"] for cell in cells]
        assert list(drawn[f"{row.label} · {board.schedule}"].get_xdata()) == expected
    assert figure.axes[0].get_xlabel() == "theoretical speedup (theoretical MACs, dense / kept)"


def test_a_small_test_set_is_said(tmp_path):
    made = FakeStore(tmp_path)
    made.plan("demo")
    for key in made.stages:
        made.finish(key, test_items=360)
    ingest(made.paths)
    for kind in ("score", "cost"):
        assert caption(plots.plot(made.paths, "demo", kind)).endswith(
            "one test image of cifar10 is 0.28 points: a demonstration, not a result"
        )


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


def test_the_command_shows_every_publication_behind_ours():
    assert get_args(Behind) == ("auto", "none", *SOURCES)
