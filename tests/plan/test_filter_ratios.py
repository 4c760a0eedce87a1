"""Filter ratios: which filters go at which level, and that the published sparsities come out."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from fractions import Fraction
from importlib import resources

import pytest
import torch

from prunectl.errors import PlanError, UnknownName
from prunectl.ml.networks.build import build
from prunectl.ml.pruning.masks import next_masks
from prunectl.ml.summarise import summarise
from prunectl.plan import filter_ratios, shipped
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.levels import UNKNOWN
from prunectl.plan.load import loads
from prunectl.spec.settings import NetworkSettings, PruneSettings
from tests.support.checking import check, kept

SETS = [(s, n) for s in ("a", "b") for n in ("resnet-56", "resnet-110", "resnet-34")]


def network_of(name: str) -> NetworkSettings:
    large = name == "resnet-34"
    shape, classes = ((3, 224, 224), 1000) if large else ((3, 32, 32), 10)
    return NetworkSettings(name, shape, classes, "projection-everywhere")


def published(structure: str, network: str) -> list[float]:
    packed = resources.files("prunectl.store.db").joinpath("published.csv.gz").read_bytes()
    rows = csv.DictReader(gzip.decompress(packed).decode().splitlines())
    return sorted(
        {
            float(row["sparsity"])
            for row in rows
            if (row["structure"], row["network"]) == (structure, network)
        }
    )


def removed(set_: str, network: str) -> list[int]:
    settings = network_of(network)
    prunable = summarise(settings).prunable
    found = filter_ratios.levels(f"renda2020-{set_}", network, 5)
    return [prunable - kept(settings, PruneSettings(ratios=pairs)) for pairs in found]


@pytest.mark.parametrize(("set_", "network"), SETS)
def test_the_published_sparsities_come_out(set_: str, network: str) -> None:
    """To 0.002: their counter also takes some inputs of shortcuts for removed, see the next test."""
    prunable = summarise(network_of(network)).prunable
    ours = [count / prunable for count in removed(set_, network)]
    theirs = published(f"structured-{set_}", network)
    assert len(theirs) == 5
    assert ours == pytest.approx(theirs, abs=0.0002 if network == "resnet-34" else 0.002)
    assert all(a <= b + 5e-7 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("set_", "network"), [pair for pair in SETS if pair[1] != "resnet-34"])
def test_the_rest_is_the_counting_of_shortcuts(set_: str, network: str) -> None:
    """With the projections of stages 1 and 2 losing as many inputs as the last block before them loses filters,
    what is published is met to the last of its six digits: so the drawn numbers of filters are theirs."""
    blocks = (int(network.split("-")[1]) - 2) // 6
    settings = network_of(network)
    found = filter_ratios.levels(f"renda2020-{set_}", network, 5)
    theirs = published(f"structured-{set_}", network)
    for pairs, count, sparsity in zip(found, removed(set_, network), theirs, strict=True):
        gone = {layer: Fraction(ratio) for layer, ratio in pairs}
        for stage, (inputs, outputs) in enumerate(((16, 32), (32, 64))):
            last = gone.get(f"stages.{stage}.{blocks - 1}.conv1", Fraction(0))
            count += int(last * inputs) * outputs
        assert round(count / summarise(settings).prunable, 6) == pytest.approx(sparsity, abs=1.1e-6)


@pytest.mark.parametrize(("set_", "network"), SETS)
def test_shipped_sets_name_layers_with_that_many_filters(set_: str, network: str) -> None:
    layers = {layer.name: layer for layer in summarise(network_of(network)).layers}
    for group in filter_ratios.find(f"renda2020-{set_}").networks[network]:
        for layer in group.layers:
            assert layers[layer].shape[0] == group.filters
            assert layers[layer].shape[2:] == (3, 3)


def test_rendas_numbering() -> None:
    """Even numbers from 2 are the first convolutions of blocks; resnet-56-a skips 16, 20, 38 and 54."""
    groups = filter_ratios.find("renda2020-a").networks["resnet-56"]
    named = [layer for group in groups for layer in group.layers]
    every = [f"stages.{stage}.{block}.conv1" for stage in range(3) for block in range(9)]
    skipped = {every[number // 2 - 1] for number in (16, 20, 38, 54)}
    assert skipped == {f"stages.{place}.conv1" for place in ("0.7", "1.0", "2.0", "2.8")}
    assert named == [layer for layer in every if layer not in skipped]


def test_counts_are_those_of_the_masks() -> None:
    settings = NetworkSettings("resnet-56", (3, 32, 32), 10, "projection-everywhere")
    network = build(settings, torch.Generator().manual_seed(0))
    masks = None
    for pairs in filter_ratios.levels("renda2020-b", "resnet-56", 3):
        prune = PruneSettings(ratios=pairs)
        masks = next_masks(network, network.state_dict(), masks, prune)
        assert summarise(settings).weights_kept(masks) == kept(settings, prune)


def test_drawn_ratios_are_whole_filters() -> None:
    for pairs in filter_ratios.levels("renda2020-b", "resnet-56", 4):
        filters = defaultdict(lambda: 0, {"0": 16, "1": 32, "2": 64})
        for layer, ratio in pairs:
            assert (Fraction(ratio) * filters[layer.split(".")[1]]).denominator == 1


def test_ratios_of_ones_own_are_exact() -> None:
    found = filter_ratios.levels({"b": 0.1, "a": 0.5}, "resnet-20", 3)
    assert found == [
        (("a", "0.5"), ("b", "0.1")),
        (("a", "0.75"), ("b", "0.19")),
        (("a", "0.875"), ("b", "0.271")),
    ]
    deep = filter_ratios.levels({"a": 0.15}, "resnet-20", 40)[-1]
    assert Fraction(deep[0][1]) == 1 - Fraction(17, 20) ** 40


def test_unknown_sets_and_networks() -> None:
    assert shipped.names("filter_ratios") == ["renda2020-a", "renda2020-b"]
    with pytest.raises(UnknownName, match="did you mean 'renda2020-a'"):
        filter_ratios.levels("renda-2020-a", "resnet-56", 1)
    with pytest.raises(UnknownName, match="resnet-20"):
        filter_ratios.levels("renda2020-a", "resnet-20", 1)


PLAN = """
# Which filters go?
name = "filters"
seeds = [0]
[grid]
network = ["resnet-56"]
dataset = ["cifar10"]
strategy = ["lr-rewind"]
[recipe]
base = "renda2020-cifar"
[pruning]
schedule = { kind = "one-shot", iterations = 2 }
ratios = "renda2020-a"
"""


def filters(old: str = "", new: str = "") -> Expansion:
    assert old in PLAN
    return expand(loads(PLAN.replace(old, new), "plan.toml"), check)


def test_one_shot_is_a_trial_per_cut() -> None:
    found = filters()
    assert not any(UNKNOWN in trial.sparsities for trial in found.trials)
    assert [trial.sparsities for trial in found.trials] == [("0", "0.078783"), ("0", "0.154184")]
    trial = found.trials[0]
    assert (trial.schedule, trial.scope, trial.granularity) == (
        "one-shot",
        "layerwise",
        "filters renda2020-a",
    )
    pruned = found.stages[trial.path[1]]
    assert pruned.mask is not None
    assert len(pruned.mask.settings.ratios) == 23
    assert pruned.mask.settings == PruneSettings(ratios=pruned.mask.settings.ratios)


def test_iterative_is_a_chain() -> None:
    found = filters('"one-shot"', '"iterative"')
    assert [trial.sparsities for trial in found.trials] == [("0", "0.078783", "0.154184")]
    assert found.trials[0].schedule == "iterative"


def test_without_a_check_sparsities_are_unknown() -> None:
    found = expand(loads(PLAN), None)
    assert found.trials[0].sparsities == ("0", UNKNOWN)
    assert found.digest == expand(loads(PLAN), check).digest


def test_the_order_of_a_table_does_not_matter() -> None:
    one = filters('"renda2020-a"', '{ "stages.0.0.conv1" = 0.5, "stages.0.1.conv1" = 0.25 }')
    two = filters('"renda2020-a"', '{ "stages.0.1.conv1" = 0.25, "stages.0.0.conv1" = 0.5 }')
    assert one.stages.keys() == two.stages.keys()
    assert one.trials[0].granularity.startswith("filters own@")
    assert one.trials[0].granularity == two.trials[0].granularity


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('"renda2020-a"', '"renda2020"', "pruning.ratios", "renda2020-a"),
        ('"resnet-56"', '"resnet-20"', "pruning.ratios", "network of the filter ratios"),
        ('"renda2020-a"', '{ "stages.9.0.conv1" = 0.5 }', "pruning.ratios.stages.9.0.conv1", "unknown layer"),
        ('"renda2020-a"', '{ "stages.0.0.conv1" = 1.5 }', "pruning.ratios.stages.0.0.conv1", "less than 1"),
        ('"renda2020-a"', '{ "stages.0.0.conv1" = 0.001 }', "pruning.ratios", "no fewer than"),
        ('"renda2020-a"', "{}", "pruning", "name no layer"),
        ('"renda2020-a"', "0.5", "pruning.ratios", "string"),
        ("iterations = 2", "rate = 0.5, iterations = 2", "pruning", "say what goes"),
        ("iterations = 2", "sparsities = [0.5]", "pruning", "say what goes"),
        ('ratios = "renda2020-a"', "", "pruning", "needs `sparsities` or a `rate`"),
        ('ratios = "renda2020-a"', 'ratios = "renda2020-a"\nscope = "uniform"', "pruning", "no scope"),
        ("ratios =", 'exclude = ["stages.0.0.conv1"]\nratios =', "pruning.exclude", "is excluded"),
    ],
)  # fmt: skip
def test_mistakes(old: str, new: str, key: str, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        filters(old, new)
    assert caught.value.key == key
    assert caught.value.line is not None
    assert says in str(caught.value)
