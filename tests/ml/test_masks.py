"""Masks: exact counts under ties and in any precision, only ever shrinking, whole channels."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from prunectl.errors import UnknownName
from prunectl.ml.networks.build import build, skeleton
from prunectl.ml.pruning.channels import dead_channels
from prunectl.ml.pruning.masks import NonFiniteWeights, dead_layers, next_masks
from prunectl.ml.pruning.scores import highest
from prunectl.ml.summarise import summarise
from prunectl.spec.density import ImpossibleDensity, kept
from prunectl.spec.settings import NetworkSettings, PruneSettings
from tests.support.prunable import prunable

SMALL = NetworkSettings("convnet", (1, 8, 8), 10)
SKELETON = skeleton(SMALL)
SHAPES = {name: kernel.shape for name, kernel in prunable(SKELETON).items()}
N = 6_152
LADDER = [str(Fraction(8**i, 10**i).limit_denominator(10**12)) for i in range(12)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(seed=0, shapes=SHAPES):
    generator = seeded(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def masks_of(weights, parents=None, network=SKELETON, seed=0, **prune):
    return next_masks(network, weights, parents, PruneSettings(**prune), seeded(seed))


def total(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def applied(weights, masks):
    return {name: weight * masks[name] for name, weight in weights.items()}


def digest(state):
    sha = hashlib.sha256()
    for name, tensor in state.items():
        sha.update(name.encode() + tensor.numpy().tobytes())
    return sha.hexdigest()


def all_equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in {**first, **second})


# Exact counts


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5])
@pytest.mark.parametrize("density", ["0", "0.000163", "0.5", "0.99984", "1"])
@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_exact_on_constants_and_at_the_ends(value, density, scope):
    weights = {name: torch.full(shape, value) for name, shape in SHAPES.items()}
    assert total(masks_of(weights, density=density, scope=scope)) == kept(N, density)


def test_densities_one_weight_from_the_ends():
    assert total(masks_of(drawn(), density=str(Fraction(1, N)))) == 1
    assert total(masks_of(drawn(), density=str(Fraction(N - 1, N)))) == N - 1


def test_ties_go_to_the_lower_flat_index_across_layers():
    masks = masks_of({name: torch.ones(shape) for name, shape in SHAPES.items()}, density="0.5")
    flat = torch.cat([mask.flatten() for mask in masks.values()])
    assert flat[: N // 2].all()
    assert not flat[N // 2 :].any()


def test_exact_where_most_scores_are_zero():
    weights = drawn()
    for weight in weights.values():
        weight[weight.abs() < 1.0] = 0  # 68 % of them
    assert total(masks_of(weights, density="0.5")) == N // 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_exact_in_any_precision(dtype):
    weights = {name: weight.to(dtype) for name, weight in drawn().items()}
    masks = masks_of(weights, density="0.107")
    assert total(masks) == 658
    same = masks_of({name: weight.float() for name, weight in weights.items()}, density="0.107")
    assert all_equal(masks, same)


def test_low_precision_ties_at_the_size_of_resnet_56():
    # Scored in fp16 or bf16 with a threshold, this keeps 91,083 or 90,286 instead.
    network = skeleton(NetworkSettings("resnet-56", (3, 32, 32), 10))
    shapes = {name: kernel.shape for name, kernel in prunable(network).items()}
    weights = {name: weight.bfloat16() for name, weight in drawn(0, shapes).items()}
    assert total(masks_of(weights, network=network, density="0.107")) == 91_111


@st.composite
def weight_tensors(draw):
    """Kernels with few distinct values, many of them equal."""
    values = draw(st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=5))
    seed = draw(st.integers(0, 1000))
    dtype = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
    generator = seeded(seed)
    table = torch.tensor(values)
    return {
        name: table[torch.randint(len(values), tuple(shape), generator=generator)].to(dtype)
        for name, shape in SHAPES.items()
    }


densities = st.decimals(0, 1, places=5, allow_nan=False, allow_infinity=False).map(str)


@hypothesis_settings(deadline=None, max_examples=40)
@given(weight_tensors(), densities, st.sampled_from(["global", "layerwise"]), st.booleans())
def test_any_weights_any_density_exact_and_shrinking(weights, density, scope, by_lot):
    criterion = "random" if by_lot else "magnitude"
    prune = {"scope": scope, "criterion": criterion}
    first = masks_of(weights, density=density, **prune)
    assert total(first) == kept(N, density)
    smaller = str(Fraction(density) * Fraction(3, 4))
    second = masks_of(applied(weights, first), first, density=smaller, seed=1, **prune)
    assert total(second) == kept(N, smaller)
    assert all((second[name] <= first[name]).all() for name in first)


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 8, width=16), min_size=1, max_size=50), st.data())
def test_highest_is_a_stable_descending_argsort(values, data):
    scores = torch.tensor(values, dtype=torch.float32)
    count = data.draw(st.integers(0, len(values)))
    expected = torch.zeros(len(values), dtype=torch.bool)
    expected[torch.argsort(scores, descending=True, stable=True)[:count]] = True
    assert torch.equal(highest(scores, count), expected)


# Scopes


def test_global_keeps_the_largest_of_all():
    weights = drawn()
    masks = masks_of(weights, density="0.3")
    smallest_kept = min(weights[n].abs()[masks[n]].min() for n in masks if masks[n].any())
    largest_cut = max(weights[n].abs()[~masks[n]].max() for n in masks if not masks[n].all())
    assert smallest_kept > largest_cut


@hypothesis_settings(deadline=None, max_examples=25)
@given(densities)
def test_layerwise_gives_every_layer_its_share(density):
    masks = masks_of(drawn(), density=density, scope="layerwise")
    assert total(masks) == kept(N, density)
    for mask in masks.values():
        assert abs(int(mask.sum()) - mask.numel() * Fraction(density)) <= 1


def test_uniform_keeps_the_ends_whole():
    masks = masks_of(drawn(), density="0.2", scope="uniform")
    assert total(masks) == kept(N, "0.2")
    assert masks["conv1.weight"].all()
    assert masks["classifier.weight"].all()
    rest = (1230 - 72 - 320) / (1152 + 4608)
    for name in ("conv2.weight", "conv3.weight"):
        assert masks[name].float().mean().item() == pytest.approx(rest, abs=1e-3)


def test_uniform_without_room_says_so():
    with pytest.raises(ImpossibleDensity, match=r"conv1.weight and classifier.weight.*hold 392"):
        masks_of(drawn(), density="0.05", scope="uniform")


def test_layerwise_respects_what_a_global_parent_left():
    weights = drawn()
    weights["conv3.weight"] *= 0.01
    parent = masks_of(weights, density="0.3")
    assert parent["conv3.weight"].float().mean() < 0.1
    child = masks_of(applied(weights, parent), parent, density="0.25", scope="layerwise")
    assert total(child) == kept(N, "0.25")
    assert all((child[name] <= parent[name]).all() for name in parent)
    assert torch.equal(child["conv3.weight"], parent["conv3.weight"])  # it has less than its share


# Iterating


@pytest.mark.parametrize("scope", ["global", "layerwise", "uniform"])
def test_the_ladder_is_counted_from_the_dense_network_and_masks_shrink(scope):
    weights, masks = drawn(), None
    for density in LADDER:
        if scope == "uniform" and Fraction(density) < Fraction(1, 10):
            break
        # As after retraining: other values, zero where pruned.
        fresh = drawn(int(Fraction(density) * 1000))
        weights = applied(fresh, masks) if masks else fresh
        child = masks_of(weights, masks, density=density, scope=scope)
        assert total(child) == kept(N, density)
        if masks:
            assert all((child[name] <= masks[name]).all() for name in masks)
        masks = child


def test_live_zeros_are_kept_before_pruned_weights():
    weights = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    parent = masks_of(drawn(), density="0.5")
    child = masks_of(weights, parent, density="0.4")
    assert total(child) == kept(N, "0.4")
    assert all((child[name] <= parent[name]).all() for name in parent)


def test_pruned_weights_never_return_even_if_their_values_did():
    weights = drawn()
    parent = masks_of(weights, density="0.5")
    child = masks_of({n: w + 100.0 * ~parent[n] for n, w in weights.items()}, parent, density="0.4")
    assert all_equal(child, masks_of(applied(weights, parent), parent, density="0.4"))


def test_one_shot_equals_iterating_on_the_same_weights():
    weights, masks = drawn(), None
    for density in LADDER[:6]:
        masks = masks_of(weights, masks, density=density)
    assert all_equal(masks, masks_of(weights, density=LADDER[5]))


def test_a_density_above_the_parents_is_refused():
    parent = masks_of(drawn(), density="0.2")
    with pytest.raises(ImpossibleDensity, match="only 1,230 are not pruned yet"):
        masks_of(drawn(), parent, density="0.3")


def test_masks_are_the_callers_own():
    parent = masks_of(drawn(), density="0.5")
    before = digest(parent)
    child = masks_of(drawn(), parent, density="0.5")
    assert all_equal(parent, child)
    for mask in child.values():
        mask.zero_()
    assert digest(parent) == before


# What is scored


def test_scoring_changes_neither_the_network_nor_the_global_generator():
    network = build(SMALL, seeded())
    network.train()
    state, rng = digest(network.state_dict()), torch.random.get_rng_state()
    for criterion in ("magnitude", "random"):
        for granularity in ("weight", "channel"):
            masks_of(
                network.state_dict(),
                network=network,
                density="0.3",
                criterion=criterion,
                granularity=granularity,
            )
    assert digest(network.state_dict()) == state
    assert network.training
    assert torch.equal(torch.random.get_rng_state(), rng)


def test_same_generator_same_random_mask():
    one, same, other = (
        masks_of(drawn(), density="0.3", criterion="random", seed=seed) for seed in (1, 1, 2)
    )
    assert all_equal(one, same)
    assert not all_equal(one, other)


def test_excluded_layers_have_no_mask_and_do_not_count():
    masks = masks_of(drawn(), density="0.5", exclude=("first", "classifier"))
    assert list(masks) == ["conv2.weight", "conv3.weight"]
    assert total(masks) == (1152 + 4608) // 2


def test_memory_layout_does_not_matter():
    network = build(SMALL, seeded())
    plain = masks_of(network.state_dict(), density="0.3")
    last = build(SMALL, seeded()).to(memory_format=torch.channels_last)
    assert all_equal(plain, masks_of(last.state_dict(), density="0.3"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("granularity", ["weight", "channel"])
def test_nothing_is_pruned_from_weights_that_are_not_finite(bad, granularity):
    weights = drawn()
    weights["conv2.weight"][3, 1, 0, 2] = bad
    with pytest.raises(NonFiniteWeights, match=r"^conv2 holds weights that are not finite"):
        masks_of(weights, density="0.5", granularity=granularity)


def test_unknown_criteria_and_wrong_parents():
    with pytest.raises(UnknownName, match="unknown criterion"):
        masks_of(drawn(), criterion="gradient")
    with pytest.raises(ValueError, match=r"conv1.weight: a mask of \(3,\)"):
        masks_of(drawn(), {"conv1.weight": torch.ones(3)})


def test_global_pruning_to_one_percent_tells_its_dead_layers():
    network = build(NetworkSettings("resnet-8", (3, 32, 32), 10), seeded())
    weights = dict(network.state_dict())
    weights["stages.1.0.shortcut.conv.weight"] *= 1e-3
    masks = masks_of(weights, network=network, density="0.01")
    # The last convolution has the largest fan-in, so its fresh weights are the smallest.
    assert dead_layers(masks) == ["stages.1.0.shortcut.conv", "stages.2.0.conv2"]
    with_norm = {**masks, "stem.bn.weight": torch.zeros(16, dtype=torch.bool)}
    assert dead_layers(with_norm) == dead_layers(masks)
    layerwise = masks_of(weights, network=network, density="0.01", scope="layerwise")
    assert dead_layers(layerwise) == []


# Channels


def channels(mask):
    """One row per channel: a filter, or a dense layer's input feature."""
    return mask.flatten(1) if mask.dim() == 4 else mask.t()


@pytest.mark.parametrize("scope", ["global", "layerwise", "uniform"])
@pytest.mark.parametrize("density", ["0.9", "0.5", "0.2"])
def test_channels_are_whole_and_reach_at_most_the_density(scope, density):
    masks = masks_of(drawn(), density=density, scope=scope, granularity="channel")
    for mask in masks.values():
        rows = channels(mask)
        assert (rows.all(dim=1) == rows.any(dim=1)).all()
    largest = max(channels(mask).shape[1] for mask in masks.values())
    slack = largest * (len(masks) if scope != "global" else 1)
    assert kept(N, density) - slack < total(masks) <= kept(N, density)


def test_channels_compete_globally_by_mean_magnitude():
    weights = {name: torch.full(shape, 0.1) for name, shape in SHAPES.items()}
    weights["conv2.weight"][5] = -2.0
    weights["classifier.weight"][:, 7] = 3.0
    weights["conv3.weight"][9, 0, 0, 0] = 50.0  # mean 0.45
    masks = masks_of(weights, granularity="channel", density=str(Fraction(10 + 72 + 144, N)))
    assert channels(masks["classifier.weight"]).any(dim=1).nonzero().flatten().tolist() == [7]
    assert channels(masks["conv2.weight"]).any(dim=1).nonzero().flatten().tolist() == [5]
    assert channels(masks["conv3.weight"]).any(dim=1).nonzero().flatten().tolist() == [9]
    # One weight less: the last channel would pass the number, and nothing smaller is let in for it.
    fewer = masks_of(weights, granularity="channel", density=str(Fraction(10 + 72 + 143, N)))
    assert total(fewer) == 82


def test_channels_shrink_and_a_density_already_passed_changes_nothing():
    parent = masks_of(drawn(), density="0.5", granularity="channel")
    weights = applied(drawn(1), parent)
    child = masks_of(weights, parent, density="0.4", granularity="channel")
    assert all((child[name] <= parent[name]).all() for name in parent)
    assert 0 < total(child) <= kept(N, "0.4")
    between = str(Fraction(total(parent) + 1, N))
    assert all_equal(parent, masks_of(weights, parent, density=between, granularity="channel"))


def test_random_channels_are_drawn_one_number_each():
    # Were every weight drawn and averaged, large channels would never be among the first.
    kept_filters = [
        channels(
            masks_of(drawn(), density="0.3", granularity="channel", criterion="random", seed=s)[
                "conv3.weight"
            ]
        )
        .any(dim=1)
        .float()
        .mean()
        .item()
        for s in range(20)
    ]
    assert sum(kept_filters) / 20 == pytest.approx(0.3, abs=0.06)


def test_a_dead_filter_makes_a_constant_until_its_batchnorm_is_masked():
    network = build(SMALL, seeded()).eval()
    with torch.no_grad():
        network.bn2.bias.fill_(0.7)
        network.bn2.running_mean.fill_(0.4)
        network.conv2.weight[::3] *= 0.01
    masks = masks_of(network.state_dict(), network=network, density="0.4", granularity="channel")
    norm = dead_channels(network, masks)
    dead = ~channels(masks["conv2.weight"]).any(dim=1)
    assert 0 < dead.sum() < 16
    assert torch.equal(norm["bn2.weight"], ~dead)
    assert torch.equal(norm["bn2.bias"], ~dead)

    def output(masks):
        with torch.no_grad():
            for name, mask in masks.items():
                network.get_parameter(name).mul_(mask)
        images = torch.randn(2, 8, 8, 8, generator=seeded())
        return network.bn2(network.conv2(images))[:, dead]

    assert output(masks).abs().min() > 0.1
    assert not output(norm).any()


def test_no_batchnorm_masks_where_every_filter_lives():
    network = skeleton(SMALL)
    assert dead_channels(network, masks_of(drawn(), density="0.9", scope="layerwise")) == {}
    assert dead_channels(network, {}) == {}


# Filter ratios


def test_ratios_drop_the_smallest_filters_of_the_named_layers_and_their_readers_inputs():
    weights = drawn()
    weights["conv2.weight"] *= torch.arange(16, 0, -1).view(-1, 1, 1, 1)
    masks = masks_of(weights, ratios=(("conv2", "0.25"),), density="0.01")
    filters = channels(masks["conv2.weight"]).all(dim=1)
    assert filters.tolist() == [True] * 12 + [False] * 4
    assert not masks["conv2.weight"][12:].any()
    assert masks["conv3.weight"][:, :12].all()
    assert not masks["conv3.weight"][:, 12:].any()
    assert masks["conv1.weight"].all()
    assert masks["classifier.weight"].all()


def test_ratios_are_of_the_dense_count_of_filters():
    weights, masks = drawn(), None
    for ratio, left in (("0.1", 14), ("0.19", 13), ("0.271", 12), ("1", 0)):
        child = masks_of(weights, masks, ratios=(("conv2", ratio),))
        assert channels(child["conv2.weight"]).any(dim=1).sum() == left
        if masks:
            assert all((child[name] <= masks[name]).all() for name in masks)
        weights, masks = applied(drawn(left), child), child


def test_ratios_of_neighbouring_layers():
    masks = masks_of(drawn(), ratios=(("conv3", "0.5"), ("conv2", "0.5"), ("conv1", "0.5")))
    assert int(masks["conv3.weight"].sum()) == 16 * 8 * 9
    assert int(masks["conv2.weight"].sum()) == 8 * 4 * 9


def test_ratios_name_layers_that_are_prunable():
    with pytest.raises(UnknownName, match="did you mean 'conv2'"):
        masks_of(drawn(), ratios=(("conv22", "0.5"),))
    with pytest.raises(UnknownName, match="unknown layer 'conv2'"):
        masks_of(drawn(), ratios=(("conv2", "0.5"),), exclude=("conv2",))


def test_resnet_110_a_has_the_density_that_was_published():
    # Renda et al.: half of the filters of the first 17 first convolutions; sparsity 0.022737 in their data.
    settings = NetworkSettings("resnet-110", (3, 32, 32), 10, shortcut="projection-everywhere")
    network = build(settings, seeded())
    ratios = tuple((f"stages.0.{block}.conv1", "0.5") for block in range(17))
    masks = masks_of(network.state_dict(), network=network, ratios=ratios)
    density = summarise(settings).weights_kept(masks) / summarise(settings).prunable
    assert round(1 - density, 6) == 0.022737
