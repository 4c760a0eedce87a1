"""The plans that are shipped: each expands, asks its question, and has the points of the figure it reproduces."""

from __future__ import annotations

import csv
import gzip
import time
from collections import defaultdict
from functools import cache
from importlib import resources
from pathlib import Path

import pytest

from prunectl.ml.datasets import registry as datasets
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.levels import UNKNOWN
from prunectl.plan.load import load
from prunectl.spec.trial import Trial
from tests.support.checking import check

FOLDER = Path(__file__).parents[2] / "plans"

# plan: trials, stages, optimizer steps
SIZES = {
    "controls": (180, 183, 12_261_924),
    "controls-lr-sweep": (180, 183, 13_012_764),
    "fashion": (72, 120, 638_778),
    "mikler-fig1": (132, 231, 15_720_000),
    "mikler-fig2": (99, 210, 14_568_000),
    "mikler-fig3": (30, 31, 2_152_000),
    "mikler-fig4": (90, 93, 6_456_000),
    "mikler-fig5": (63, 174, 13_008_000),
    "mikler-fig6": (4, 38, 3_040_000),
    "mikler-table1": (18, 18, 1_320_000),
    "mikler-table5": (9, 12, 840_000),
    "quickstart": (9, 84, 37_398),
    "renda-imagenet": (1320, 1956, 127_204_182),
    "renda-resnet110": (1350, 2085, 88_919_532),
    "renda-resnet20": (1350, 2085, 88_919_532),
    "renda-resnet56": (1350, 2841, 120_814_836),
    "renda-structured": (2460, 2226, 95_822_568),
    "renda-structured-imagenet": (1230, 1173, 77_349_330),
    "renda-vgg16": (3, 3, 213_324),
    "thesis-partial-rewind": (15, 288, 22_584_000),
    "thesis-wrn-28-10": (9, 48, 3_840_000),
    "wrn": (24, 318, 24_816_000),
}

# plan: source and figures, "" for the one without figure names
FIGURES = {
    "mikler-fig1": ("mikler2021", ("Fig1L", "Fig1R")),
    "mikler-fig2": ("mikler2021", ("Fig2L", "Fig2R")),
    "mikler-fig3": ("mikler2021", ("Fig3",)),
    "mikler-fig4": ("mikler2021", ("Fig4",)),
    "mikler-fig5": ("mikler2021", ("Fig5L", "Fig5R")),
    "mikler-fig6": ("mikler2021", ("Fig6",)),
    "mikler-table1": ("mikler2021", ("Table1/2",)),
    "mikler-table5": ("mikler2021", ("Table5",)),
    "renda-imagenet": ("renda2020", ("",)),
    "renda-resnet110": ("renda2020", ("",)),
    "renda-resnet20": ("renda2020", ("",)),
    "renda-resnet56": ("renda2020", ("",)),
    "renda-structured": ("renda2020", ("",)),
    "renda-structured-imagenet": ("renda2020", ("",)),
    "renda-vgg16": ("renda2020", ("",)),
    "thesis-partial-rewind": ("mikler2021-thesis", ("Fig3.6",)),
    "thesis-wrn-28-10": ("mikler2021-thesis", ("Fig3.9",)),
}
OFF_THE_LADDER = {0.8657}  # of WRN-28-10, partial-rewind-75: no power of 0.7

Curve = tuple[str, str, str, str, str, str]
"""Network, data set, structure, schedule, its step where the source says it, method."""


@cache
def plan(name: str) -> Expansion:
    loaded = load(FOLDER / f"{name}.toml")
    if set(loaded.content.grid.dataset) - {*datasets.names(), *loaded.content.datasets}:
        pytest.skip("this prunectl has not got the data set yet")
    return expand(loaded, check)


@cache
def published() -> list[dict[str, str]]:
    packed = resources.files("prunectl.store.db").joinpath("published.csv.gz").read_bytes()
    return list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))


def structure(trial: Trial) -> str:
    if trial.granularity.startswith("filters"):
        return f"structured-{trial.granularity[-1]}"
    return {"weight": "unstructured", "channel": "structured", "": "none"}[trial.granularity]


def ours(name: str) -> dict[Curve, set[float]]:
    """Sparsities by curve; a plan's own strategies are no published method."""
    source, _ = FIGURES[name]
    expansion = plan(name)
    curves: dict[Curve, set[float]] = defaultdict(set)
    for trial in expansion.trials:
        if trial.strategy.partition("@")[0] in expansion.plan.content.strategies:
            continue
        kind, _, step = trial.schedule.partition(" ")
        curve = (trial.network, trial.dataset, structure(trial), kind)
        curve += (step if source != "renda2020" else "", trial.strategy)
        curves[curve] |= {float(sparsity) for sparsity in trial.sparsities[1:]} or {0.0}
    return dict(curves)


def theirs(name: str) -> dict[Curve, set[float]]:
    source, figures = FIGURES[name]
    networks = {curve[0] for curve in ours(name)}
    structures = {curve[2] for curve in ours(name)}
    curves: dict[Curve, set[float]] = defaultdict(set)
    for row in published():
        if (row["source"], row["network"] in networks) != (source, True):
            continue
        if row["figure"] not in figures or row["structure"] not in structures:
            continue
        curve = (row["network"], row["dataset"], row["structure"], row["schedule"])
        curves[(*curve, row["prune_step"], row["method"])].add(float(row["sparsity"]))
    return dict(curves)


def test_every_plan_is_known_here() -> None:
    assert {file.stem for file in FOLDER.glob("*.toml")} == set(SIZES)
    papers = {name for name in SIZES if name.startswith(("mikler", "renda", "thesis"))}
    assert papers == set(FIGURES)


@pytest.mark.parametrize("name", SIZES)
def test_plans_expand_to_what_they_should(name: str) -> None:
    expansion = plan(name)
    steps = sum(spec.steps for spec in expansion.stages.values())
    assert (len(expansion.trials), len(expansion.stages), steps) == SIZES[name]
    assert expansion.plan.content.name == name
    assert expansion.plan.question.endswith("?")
    assert not any(UNKNOWN in trial.sparsities for trial in expansion.trials)
    assert len({trial.id for trial in expansion.trials}) == len(expansion.trials)


@pytest.mark.parametrize("name", FIGURES)
def test_curves_are_those_of_the_figure(name: str) -> None:
    assert ours(name).keys() == theirs(name).keys()


@pytest.mark.parametrize("name", FIGURES)
def test_sparsities_are_those_of_the_figure(name: str) -> None:
    # To a thousandth; of filter ratios tests/plan/test_filter_ratios.py says why it is two.
    tolerance = 0.002 if "structured" in name else 0.001
    for curve, levels in ours(name).items():
        known = theirs(name)[curve]
        for sparsity in levels:
            assert min(abs(sparsity - other) for other in known) <= tolerance, curve
        for sparsity in known - OFF_THE_LADDER:
            assert min(abs(sparsity - other) for other in levels) <= tolerance, curve


@pytest.mark.parametrize("name", [n for n in FIGURES if FIGURES[n][0] == "renda2020"])
def test_lengths_of_retraining_are_those_published(name: str) -> None:
    longest = "90" if "imagenet" in name else "182"
    for network, _, kind_of, kind, _, method in ours(name):
        if method in ("dense", "reinit"):
            continue
        known = {
            float(row["retrain_epochs"])
            for row in published()
            if row["source"] == "renda2020"
            and (row["network"], row["structure"], row["schedule"], row["method"])
            == (network, kind_of, kind, method)
        }
        found = {
            float(trial.retrain.replace("full", longest).removesuffix("ep"))
            for trial in plan(name).trials
            if (trial.network, structure(trial), trial.strategy) == (network, kind_of, method)
            and trial.schedule.startswith(kind)
        }
        assert found == known


@pytest.mark.parametrize("name", FIGURES)
def test_there_are_as_many_seeds_as_the_source_had(name: str) -> None:
    source, figures = FIGURES[name]
    networks = {trial.network for trial in plan(name).trials}
    known = [
        int(row["n"])
        for row in published()
        if row["source"] == source
        and row["figure"] in figures
        and row["network"] in networks
        and row["n"]
        and row["method"] != "dense"
    ]
    assert len(plan(name).plan.content.seeds) == max(known, default=3)


def test_the_restarted_schedule_is_the_released_one() -> None:
    """Mikler's code: 36,000 steps at 0.1, 18,000 at 0.01 and 10,000 at 0.001 (WRN: 32, 16, 16 and 8 thousand)."""
    for name, runs in (
        ("mikler-fig1", [(0.1, 36_000), (0.01, 18_000), (0.001, 10_000)]),
        ("mikler-fig5", [(0.1, 32_000), (0.02, 16_000), (0.004, 16_000), (0.0008, 8_000)]),
    ):
        found = plan(name)
        trial = next(t for t in found.trials if t.strategy.startswith("weight-rewind-restarted@"))
        stage = found.stages[trial.path[1]]
        assert [(segment.lr, segment.steps) for segment in stage.lr] == runs
        assert stage.weights.step == 8_000
        assert stage.optimizer_state == "fresh"


def test_a_large_plan_expands_quickly() -> None:
    loaded = load(FOLDER / "renda-resnet20.toml", ["seeds=[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14]"])
    started = time.process_time()
    expansion = expand(loaded, None)
    assert len(expansion.stages) > 10_000
    assert time.process_time() - started < 15  # 0.15 s on a machine with nothing else to do
