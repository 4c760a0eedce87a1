"""Training in bf16 and fp16: weights cast at once have autocast's bits, and losses are scaled as GradScaler does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prunectl.ml.datasets.images import Images
from prunectl.ml.output_shapes import calls
from prunectl.ml.training import loss_scale, precision
from prunectl.ml.training.state import TrainingState
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from tests.support.prunable import some_masks

SGD = OptimizerSettings(nesterov=True, weight_decay=1e-3)
LR = constant(0.05, 40)


def images() -> Images:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8, generator=source)
    labels = torch.randint(0, 10, (40,), generator=source)
    split = (pixels.permute(0, 3, 1, 2), labels)
    return Images(*split, *split, 10)


def trainer(network: Any = "resnet-8", kind: str = "bf16", **values: Any) -> Trainer:
    normalize = NormalizeSettings("channel", (0.5,) * 3, (0.25,) * 3)
    chosen = {"batch": 8, "optimizer": SGD, "normalize": normalize, "precision": kind, **values}
    if isinstance(network, str):
        network = NetworkSettings(network, (3, 16, 16), 10)
    made = Trainer(network, TrainSettings(**chosen), images())
    made.initialise(0, 0)
    return made


def run(made: Trainer, until: int) -> None:
    for _ in made.train(LR, Seeds.of(0), 0, until):
        pass


def same(one: TrainingState, other: TrainingState) -> bool:
    return all(
        torch.equal(getattr(one, part)[name], tensor)
        for part in ("weights", "optimizer", "accumulators")
        for name, tensor in getattr(other, part).items()
    )


def outcome(made: Trainer) -> tuple[TrainingState, Any, Any]:
    run(made, 3)
    made.set_masks(some_masks(made.parameters))
    run(made, 7)
    return made.state(), made.evaluate("test"), made.metrics()


class Twice(nn.Module):
    """Uses one layer twice, and another's weight in a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.tied = nn.Conv2d(8, 8, 3, padding=1)
        self.tied.weight = self.again.weight
        self.head = nn.Linear(8, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.again(self.again(self.first(pixels).relu()).relu())
        out: Tensor = self.head(self.tied(hidden).relu().mean((2, 3)))
        return out


def twice(source: torch.Generator | None) -> nn.Module:
    module = Twice()
    with torch.no_grad():
        for parameter in module.parameters() if source is not None else ():
            parameter.normal_(0, 0.2, generator=source)
    return module


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
@pytest.mark.parametrize(
    "values", [{}, {"micro_batch": 3}, {"optimizer": OptimizerSettings("adam")}]
)
@pytest.mark.parametrize("network", ["resnet-8", "convnet", "lenet-300-100", twice])
def test_weights_cast_at_once_give_autocast_s_bits(
    network: Any, values: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = trainer(network, kind, **values)
    assert ours.precision._cast
    found = outcome(ours)
    monkeypatch.setattr(precision, "_cast_parameters", lambda module, called: [])
    plain = trainer(network, kind, **values)
    assert not plain.precision._cast
    expected = outcome(plain)
    assert same(found[0], expected[0])
    assert found[1:] == expected[1:]


def test_what_is_used_twice_is_left_to_autocast() -> None:
    module = twice(None)
    names = precision._cast_parameters(module, calls(module, (3, 16, 16)))
    assert names == ["first.weight", "first.bias", "tied.bias", "head.weight", "head.bias"]


def test_strict_precision_casts_nothing() -> None:
    assert not trainer(kind="fp32").precision._cast
    assert not trainer(kind="tf32").precision._cast


# --- the scale of the loss ------------------------------------------------------------------------


def by_grad_scaler(optimizer: OptimizerSettings, steps: int, scale: float) -> tuple[Any, ...]:
    """Train as torch's documentation says. Returns the weights, and the scale after each step."""
    made = trainer(kind="fp16", optimizer=optimizer)
    module = made.module.train()
    if optimizer.name == "sgd":
        own: Any = torch.optim.SGD(module.parameters(), 0.05, 0.9, nesterov=True,
                                   weight_decay=1e-3, fused=True)  # fmt: skip
        for parameter in module.parameters():
            # Fused SGD (torch 2.14) goes on with uninitialised momenta where its first step was skipped.
            own.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    else:
        own = torch.optim.Adam(module.parameters(), 0.05, fused=True)
    scaler = torch.amp.GradScaler("cpu", scale, growth_interval=loss_scale.INTERVAL)
    scales = []
    for step in range(steps):
        pixels, labels = made.batches.get(Seeds.of(0), 0, step)
        with torch.autocast("cpu", torch.float16, cache_enabled=False):
            outputs = module(made.normalize(pixels))
        loss = cross_entropy(outputs.float(), labels)
        own.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(own)
        scaler.update()
        scales.append(scaler.get_scale())
    return {name: p.detach().clone() for name, p in module.named_parameters()}, scales


@pytest.mark.parametrize("optimizer", [SGD, OptimizerSettings("adam")], ids=["sgd", "adam"])
def test_training_is_that_of_grad_scaler(
    optimizer: OptimizerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With steps that overflow at first, and a scale that grows again."""
    monkeypatch.setattr(loss_scale, "INTERVAL", 2)
    expected, scales = by_grad_scaler(optimizer, 24, 2.0**20)
    assert scales != sorted(scales, reverse=True)
    assert scales != sorted(scales)
    made = trainer(kind="fp16", optimizer=optimizer)
    scale = made.optimizer.loss_scale
    assert scale is not None
    scale.scale.fill_(2.0**20)
    found = []
    for until in range(1, 25):
        run(made, until)
        found.append(float(scale.scale))
    assert found == scales
    befores = [2.0**20, *scales[:-1]]
    halved = sum(after < before for before, after in zip(befores, scales, strict=True))
    assert made.metrics().skipped == halved > 0
    for name, tensor in expected.items():
        assert torch.equal(made.parameters[name].detach(), tensor), name


@pytest.mark.parametrize("optimizer", [SGD, OptimizerSettings("adam")], ids=["sgd", "adam"])
def test_a_skipped_step_is_a_step_and_changes_nothing_else(optimizer: OptimizerSettings) -> None:
    made = trainer(kind="fp16", optimizer=optimizer)
    masks = some_masks(made.parameters)
    made.set_masks(masks)
    run(made, 2)
    scale = made.optimizer.loss_scale
    assert scale is not None
    scale.scale.fill_(float("inf"))
    before = made.state()
    run(made, 3)
    after = made.state()
    assert after.step == 3
    assert made.metrics().skipped == 1
    assert float(scale.found) == 1
    for name in made.parameters:
        assert torch.equal(before.weights[name], after.weights[name]), name
    for name in before.optimizer.keys() - {"scale", "growth_tracker"}:
        assert torch.equal(before.optimizer[name], after.optimizer[name]), name
    for name, mask in masks.items():
        assert (after.weights[name][~mask] == 0).all()


def test_the_scale_is_state() -> None:
    """It goes on where a checkpoint left it, or begins anew with the optimizer."""
    whole, part = trainer(kind="fp16"), trainer(kind="fp16")
    for made in (whole, part):
        assert made.optimizer.loss_scale is not None
        made.optimizer.loss_scale.scale.fill_(2.0**40)
    run(whole, 14)
    run(part, 5)
    resumed = trainer(kind="fp16")
    resumed.load(part.state())
    run(resumed, 14)
    assert same(resumed.state(), whole.state())
    assert resumed.metrics() == whole.metrics()
    resumed.load(part.state(), optimizer=False)
    state = resumed.state().optimizer
    assert float(state["scale"]) == loss_scale.INITIAL
    assert int(state["growth_tracker"]) == 0
    assert not {"scale", "growth_tracker"} & trainer(kind="bf16").state().optimizer.keys()
