"""The trainer: what it computes, that pruned weights stay zero, and that stopping anywhere changes nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prunectl.ml.datasets.images import Images
from prunectl.ml.randomness import epoch_order
from prunectl.ml.training.optimizer import Optimizer
from prunectl.ml.training.state import TrainingState
from prunectl.ml.training.trainer import Trainer
from prunectl.spec import lr_schedule
from prunectl.spec.lr_schedule import Segment, constant, stepwise
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    AugmentSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from tests.support.prunable import some_masks

SGD = OptimizerSettings(momentum=0.9, nesterov=True, weight_decay=5e-4)
NORMALIZE = NormalizeSettings("channel", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def tiny(count: int = 50, classes: int = 7, size: int = 6) -> Images:
    source = torch.Generator().manual_seed(5)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        pixels = torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8, generator=source)
        labels = torch.randint(0, classes, (n,), generator=source)
        return pixels.permute(0, 3, 1, 2), labels

    train, test, validation = draw(count), draw(333), draw(20)
    return Images(*train, *test, classes, *validation)


def convolutional(source: torch.Generator | None) -> nn.Module:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 7),
    )
    return drawn(module, source)


def dense(source: torch.Generator | None) -> nn.Module:
    return drawn(
        nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.ReLU(), nn.Linear(16, 7)), source
    )


def drawn(module: nn.Module, source: torch.Generator | None) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters() if source is not None else ():
            parameter.normal_(0, 0.2, generator=source)
    return module


def settings(**values: Any) -> TrainSettings:
    return TrainSettings(**{"batch": 16, "optimizer": SGD, "normalize": NORMALIZE, **values})


def ready(
    build: Callable[[torch.Generator | None], nn.Module] = convolutional, **values: Any
) -> Trainer:
    trainer = Trainer(build, settings(**values), tiny())
    trainer.initialise(0, 0)
    return trainer


def run(trainer: Trainer, lr: lr_schedule.Schedule, until: int, **values: Any) -> None:
    for _ in trainer.train(lr, Seeds.of(0), 0, until, **values):
        pass


def assert_same(one: TrainingState, other: TrainingState) -> None:
    assert one.step == other.step
    for kind in ("weights", "optimizer", "accumulators"):
        first, second = getattr(one, kind), getattr(other, kind)
        assert first.keys() == second.keys()
        for name in first:
            assert first[name].numpy().tobytes() == second[name].numpy().tobytes(), name


# --- what is computed ---------------------------------------------------------------------------


def reference(
    trainer: Trainer, optimizer: torch.optim.Optimizer, module: nn.Module, steps: int
) -> None:
    """The plain loop: float pixels, torch's own optimizer, one batch after another."""
    images = trainer.images
    unit = images.train_images.float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (NORMALIZE.mean, NORMALIZE.std))
    order = torch.cat([epoch_order(0, 0, e, 50)[i : i + 16] for e in range(3) for i in (0, 16, 32)])
    module.train()
    for step in range(steps):
        chosen = order[16 * step : 16 * (step + 1)]
        optimizer.zero_grad()
        loss = cross_entropy(module((unit[chosen] - mean) / std), images.train_targets[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("build", [convolutional, dense])
@pytest.mark.parametrize(
    "chosen",
    [
        OptimizerSettings(momentum=0.0),
        OptimizerSettings(momentum=0.9, weight_decay=1e-2),
        SGD,
        OptimizerSettings(name="adam", weight_decay=1e-2, beta1=0.8, beta2=0.99, eps=1e-6),
    ],
    ids=["plain", "momentum", "nesterov", "adam"],
)
def test_training_equals_the_plain_loop(build: Any, chosen: OptimizerSettings) -> None:
    trainer = ready(build, optimizer=chosen, drop_last=True)
    module = build(None)
    module.load_state_dict(trainer.state().weights)
    plain: torch.optim.Optimizer
    if chosen.name == "sgd":
        plain = torch.optim.SGD(
            module.parameters(),
            lr=0.01,
            momentum=chosen.momentum,
            nesterov=chosen.nesterov,
            weight_decay=chosen.weight_decay,
            foreach=False,
        )
    else:
        plain = torch.optim.Adam(
            module.parameters(), lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=1e-2
        )
    reference(trainer, plain, module, 7)
    run(trainer, constant(0.01, 7), 7)
    trained = trainer.state().weights
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(trained[name], tensor, atol=2e-5, rtol=2e-4)


def test_zero_buffers_make_the_bits_of_torchs_own_first_step() -> None:
    source = torch.Generator().manual_seed(0)
    start = torch.randn(6, 5, generator=source)
    ours, plain = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = Optimizer({"w": ours}, SGD)
    optimizer.lr.fill_(0.1)
    rate = torch.tensor(0.1)
    other = torch.optim.SGD(
        [plain], rate, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    for _ in range(3):
        gradient = torch.randn(6, 5, generator=source)
        ours.grad, plain.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        other.step()
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_weight_decay_on_weights_leaves_biases_and_batchnorm_alone(name: Any) -> None:
    def after(decay: Any, amount: float) -> dict[str, Tensor]:
        chosen = OptimizerSettings(name=name, momentum=0.0, weight_decay=amount, decay=decay)
        trainer = ready(optimizer=chosen)
        run(trainer, constant(0.1, 1), 1)
        return trainer.state().weights

    without, weights, everything = after("all", 0.0), after("weights", 0.5), after("all", 0.5)
    for parameter in ("0.weight", "3.weight", "6.weight"):
        assert not torch.equal(without[parameter], weights[parameter])
    for parameter in ("1.weight", "1.bias", "3.bias", "6.bias"):
        assert torch.equal(without[parameter], weights[parameter])
    assert not torch.equal(without["1.weight"], everything["1.weight"])


def test_label_smoothing_is_of_the_training_loss_only() -> None:
    plain, smooth = ready(dense), ready(dense, label_smoothing=0.3)
    for trainer, smoothing in ((plain, 0.0), (smooth, 0.3)):
        before = {k: v.clone() for k, v in trainer.state().weights.items()}
        pixels, labels = trainer.batches.get(Seeds.of(0), 0, 0)
        module = dense(None)
        module.load_state_dict(before)
        logits = module(trainer.normalize(pixels))
        wanted = cross_entropy(logits, labels, label_smoothing=smoothing).item()
        run(trainer, constant(0.1, 1), 1)
        assert trainer.metrics().loss == pytest.approx(wanted, rel=1e-6)
    plain.load(smooth.state(), optimizer=False)
    assert plain.evaluate("test") == smooth.evaluate("test")


def test_averages_are_over_the_true_number_of_images() -> None:
    trainer = ready(dense)
    module = dense(None)
    module.load_state_dict(trainer.state().weights)
    images = trainer.images
    with torch.no_grad():
        logits = module(trainer.normalize(images.test_images.permute(0, 2, 3, 1)))
    # 333 is no multiple of the batch that is evaluated at once
    right = (logits.argmax(1) == images.test_targets).sum().item()
    among = (logits.topk(5).indices == images.test_targets[:, None]).any(1).sum().item()
    metrics = trainer.evaluate("test")
    assert metrics is not None
    assert metrics.metrics["accuracy"] == 100 * right / 333
    assert metrics.metrics["top5"] == 100 * among / 333
    assert metrics.count == 333
    assert metrics.loss == pytest.approx(
        cross_entropy(logits, images.test_targets).item(), rel=1e-5
    )


def test_training_metrics_count_the_short_batch_by_its_size() -> None:
    trainer = ready(dense)
    still = constant(0.0, 8)
    run(trainer, still, 4)
    metrics = trainer.metrics()
    assert metrics.count == 50
    images = trainer.images
    module = dense(None)
    module.load_state_dict(trainer.state().weights)
    logits = module(trainer.normalize(images.train_images.permute(0, 2, 3, 1)))
    right = (logits.argmax(1) == images.train_targets).sum().item()
    assert metrics.metrics == {"accuracy": 100 * right / 50}
    wanted = cross_entropy(logits, images.train_targets).item()
    assert metrics.loss == pytest.approx(wanted, rel=1e-5)
    assert math.isnan(trainer.metrics().loss)


def test_top5_is_not_measured_of_five_classes() -> None:
    images = tiny(classes=5)
    trainer = Trainer(dense, settings(), images)
    trainer.initialise(0, 0)
    metrics = trainer.evaluate("test")
    assert metrics is not None
    assert "top5" not in metrics.metrics


def test_there_may_be_no_validation_images() -> None:
    images = dataclasses.replace(tiny(), validation_images=None, validation_targets=None)
    assert Trainer(dense, settings(), images).evaluate("validation") is None
    validation = ready(dense).evaluate("validation")
    assert validation is not None
    assert validation.count == 20


def test_bf16_keeps_weights_and_statistics_in_fp32() -> None:
    trainer = ready(precision="bf16")
    run(trainer, constant(0.05, 6), 6)
    state = trainer.state()
    floats = [t for t in (*state.weights.values(), *state.optimizer.values())]
    assert {t.dtype for t in floats} == {torch.float32, torch.int64}
    whole = ready()
    run(whole, constant(0.05, 6), 6)
    assert not torch.equal(state.weights["0.weight"], whole.state().weights["0.weight"])
    difference = state.weights["0.weight"] - whole.state().weights["0.weight"]
    assert difference.abs().max() < 0.05


# --- learning rates -----------------------------------------------------------------------------


def test_the_rates_read_back_are_those_of_the_schedule() -> None:
    trainer = ready(dense)
    lr = stepwise(0.1, 12, [5, 9], 0.1)
    run(trainer, lr, 7)
    assert trainer.lrs_applied() == [(0, 0.1), (5, 0.01)]
    assert trainer.lrs_applied() == []
    run(trainer, lr, 12)
    assert trainer.lrs_applied() == [(9, 0.001)]


def test_a_changing_rate_is_read_back_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunectl.ml.training.lr_log.ROOM", 4)
    trainer = ready(dense)
    lr = lr_schedule.decaying("cosine", 0.3, 0.0, 11)
    run(trainer, lr, 11)
    applied = trainer.lrs_applied()
    assert [step for step, _ in applied] == list(range(11))
    wanted = list(lr_schedule.rates(lr))
    assert [rate for _, rate in applied] == pytest.approx(wanted, rel=1e-6)


def test_each_step_uses_its_own_rate() -> None:
    trainer = ready(dense, optimizer=OptimizerSettings(momentum=0.0))
    lr = (Segment(0.1, 1), Segment(0.0, 1), Segment(0.2, 1))
    moved = []
    for _ in trainer.train(lr, Seeds.of(0), 0, 3, yield_every=1):
        moved.append(trainer.state().weights["1.weight"])
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[1], moved[2])


def test_after_loading_the_first_rate_is_reported_again() -> None:
    trainer = ready(dense)
    run(trainer, constant(0.1, 8), 4)
    trainer.load(trainer.state())
    run(trainer, constant(0.1, 8), 8)
    assert trainer.lrs_applied() == [(4, 0.1)]


def test_a_schedule_too_short_is_refused() -> None:
    with pytest.raises(IndexError):
        run(ready(dense), constant(0.1, 3), 4)


# --- pruned weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("build", [convolutional, dense])
def test_pruned_weights_stay_zero_after_every_step(
    build: Any, carried: bool, decay: float, momentum: float, name: Any
) -> None:
    chosen = OptimizerSettings(name=name, momentum=momentum, weight_decay=decay)
    trainer = ready(build, optimizer=chosen)
    run(trainer, constant(0.05, 20), 6)
    dense_state = trainer.state()
    masks = some_masks(trainer.parameters)
    trainer.set_masks(masks)
    trainer.load(dataclasses.replace(dense_state, step=0), optimizer=carried)
    for _ in trainer.train(constant(0.05, 8), Seeds.of(0), 1, 8, yield_every=1):
        for parameter, mask in masks.items():
            assert (trainer.parameters[parameter][~mask] == 0).all()
            assert (trainer.parameters[parameter][mask] != 0).any()
    state = trainer.state()
    for parameter, mask in masks.items():
        for slot, tensor in state.optimizer.items():
            if slot.endswith(f"/{parameter}") and tensor.ndim:
                assert (tensor[~mask] == 0).all()


def test_masks_zero_weights_and_momenta_when_set_and_when_a_state_is_loaded() -> None:
    trainer = ready()
    run(trainer, constant(0.05, 4), 4)
    before = trainer.state()
    masks = some_masks(trainer.parameters)
    trainer.set_masks(masks)
    after_set = trainer.state()
    trainer.load(before)
    assert_same(trainer.state(), after_set)
    for name, mask in masks.items():
        assert torch.equal(after_set.weights[name], before.weights[name] * mask)
        slot = f"momentum_buffer/{name}"
        assert torch.equal(after_set.optimizer[slot], before.optimizer[slot] * mask)
    assert torch.equal(after_set.weights["1.bias"], before.weights["1.bias"])


def test_pruned_weights_are_zero_in_a_diverged_network_too() -> None:
    trainer = ready(dense)
    masks = some_masks(trainer.parameters)
    trainer.set_masks(masks)
    run(trainer, constant(1e30, 6), 6)
    state = trainer.state()
    assert not state.weights["1.weight"].isfinite().all()
    for name, mask in masks.items():
        assert (state.weights[name][~mask] == 0).all()


def test_without_masks_again_everything_trains() -> None:
    trainer = ready(dense)
    trainer.set_masks(some_masks(trainer.parameters, 0.0))
    trainer.initialise(0, 0)
    fresh = ready(dense)
    run(trainer, constant(0.1, 3), 3)
    run(fresh, constant(0.1, 3), 3)
    assert_same(trainer.state(), fresh.state())


def test_masks_that_fit_no_layer_are_refused() -> None:
    trainer = ready(dense)
    with pytest.raises(ValueError, match=r"9\.weight"):
        trainer.set_masks({"9.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"1\.weight"):
        trainer.set_masks({"1.weight": torch.ones(2, 2, dtype=torch.bool)})


# --- stopping and going on ----------------------------------------------------------------------

AUGMENTED: dict[str, Any] = {
    "augment": AugmentSettings(1, "reflect", True),
    "straddle": True,
    "label_smoothing": 0.1,
}


def finished(**values: Any) -> TrainingState:
    trainer = ready(**values)
    trainer.set_masks(some_masks(trainer.parameters))
    run(trainer, stepwise(0.1, 10, [6], 0.1), 10, yield_every=100)
    return trainer.state()


@pytest.mark.parametrize("values", [{}, AUGMENTED, {"optimizer": OptimizerSettings("adam")}])
def test_resuming_from_any_step_in_a_new_trainer_is_bit_identical(values: dict[str, Any]) -> None:
    whole = finished(**values)
    for stop in range(1, 10):
        trainer = ready(**values)
        masks = some_masks(trainer.parameters)
        trainer.set_masks(masks)
        run(trainer, stepwise(0.1, 10, [6], 0.1), stop)
        state = trainer.state()
        other = Trainer(convolutional, settings(**values), tiny())
        other.initialise(77, 3)
        other.set_masks(masks)
        other.load(state)
        run(other, stepwise(0.1, 10, [6], 0.1), 10)
        assert_same(other.state(), whole)


@pytest.mark.parametrize("every", [1, 3, 10])
def test_what_happens_between_yields_changes_nothing(every: int) -> None:
    whole = finished(**AUGMENTED)
    trainer = ready(**AUGMENTED)
    trainer.set_masks(some_masks(trainer.parameters))
    yields = 0
    for _ in trainer.train(stepwise(0.1, 10, [6], 0.1), Seeds.of(0), 0, 10, yield_every=every):
        yields += 1
        assert trainer.step == yields * every
        trainer.evaluate("test")
        trainer.state()
        trainer.metrics(reset=False)
        trainer.lrs_applied()
    assert yields == 10 // every
    assert_same(trainer.state(), whole)


def test_a_training_closed_at_a_yield_goes_on_from_there() -> None:
    whole = finished()
    trainer = ready()
    trainer.set_masks(some_masks(trainer.parameters))
    going = trainer.train(stepwise(0.1, 10, [6], 0.1), Seeds.of(0), 0, 10, yield_every=4)
    next(going)
    going.close()  # type: ignore[attr-defined]
    assert trainer.step == 4
    run(trainer, stepwise(0.1, 10, [6], 0.1), 10)
    assert_same(trainer.state(), whole)


def test_a_trainer_is_as_good_as_new_for_the_next_stage_and_nothing_moves() -> None:
    fresh = ready()
    run(fresh, constant(0.1, 5), 5)
    used = ready()
    places = [t.data_ptr() for t in (*used.parameters.values(), *used.optimizer.state().values())]
    used.set_masks(some_masks(used.parameters))
    run(used, constant(0.3, 7), 7)
    used.initialise(0, 0)
    run(used, constant(0.1, 5), 5)
    assert_same(used.state(), fresh.state())
    now = [t.data_ptr() for t in (*used.parameters.values(), *used.optimizer.state().values())]
    assert now == places


def test_a_shorter_training_is_a_prefix_of_a_longer_one() -> None:
    short, long = ready(), ready()
    run(short, constant(0.1, 5), 5)
    run(long, constant(0.1, 50), 5)
    assert_same(short.state(), long.state())


def test_initialising_is_a_function_of_seed_and_iteration() -> None:
    trainer = ready()
    states = []
    for key in ((0, 0), (0, 1), (1, 0), (0, 0)):
        trainer.initialise(*key)
        states.append(trainer.state())
    assert_same(states[0], states[3])
    weights = [state.weights["0.weight"] for state in states[:3]]
    assert not any(torch.equal(weights[a], weights[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_loading_without_the_optimizer_starts_it_fresh() -> None:
    trainer = ready()
    run(trainer, constant(0.1, 5), 5)
    state = trainer.state()
    trainer.load(state, optimizer=False)
    assert all((tensor == 0).all() for tensor in trainer.state().optimizer.values())
    assert trainer.step == 5
    trainer.load(TrainingState(state.weights, state.optimizer))
    assert trainer.step == 0
    assert trainer.metrics().count == 0
    trainer.optimizer.reset()
    assert all((tensor == 0).all() for tensor in trainer.state().optimizer.values())


def test_a_state_of_something_else_is_refused_and_changes_nothing() -> None:
    trainer = ready()
    before = trainer.state()
    with pytest.raises(ValueError, match="weights"):
        trainer.load(ready(dense).state())
    wrong = {**before.weights, "6.weight": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match=r"6\.weight"):
        trainer.load(dataclasses.replace(before, weights=wrong))
    with pytest.raises(ValueError, match="optimizer state"):
        trainer.load(ready(optimizer=OptimizerSettings("adam")).state())
    assert_same(trainer.state(), before)


def test_a_network_learns_the_synthetic_images_but_not_at_once() -> None:
    from pathlib import Path

    from prunectl.ml.datasets.images import load
    from prunectl.ml.datasets.registry import describe
    from prunectl.spec.settings import DataSettings

    options = (("height", 6), ("train", 1000), ("width", 6), ("classes", 7))
    about = describe("synthetic", options)
    images = load(DataSettings("synthetic", about.fingerprint, options), Path("nowhere"))
    normalize = NormalizeSettings("channel", about.mean, about.std)
    trainer = Trainer(dense, settings(normalize=normalize), images)
    trainer.initialise(0, 0)
    accuracies = []
    for epoch in (1, 10):
        run(trainer, constant(0.02, 1000), trainer.layout.steps(epoch))
        metrics = trainer.evaluate("test")
        assert metrics is not None
        accuracies.append(metrics.metrics["accuracy"])
    assert 15 < accuracies[0] < accuracies[1] < 99.9
    assert accuracies[1] > 60
