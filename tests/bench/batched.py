"""Whether networks are trained faster as one: `python -m tests.bench.batched`, on a CPU or a card.

So many small convolutional networks, each with its own weights and images, do a step of SGD

one by one   each with its own kernels; on a card each on a stream of its own
vmap         as one network with stacked weights, by torch.func
grouped      as one network whose convolutions have a group for each

On a card each step is replayed as a CUDA graph. All three compute the same losses, which is checked first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.functional import conv2d, cross_entropy

RATE, CLASSES = 0.05, 10
CHECKED = 10
"""Steps that are compared."""
TOLERANCE = 1e-4
"""Relative, of losses: sums in another order, amplified by ten steps."""

Weights = dict[str, Tensor]
Step = Callable[[], Tensor]
"""Does a step of all networks. Returns their losses before it, [networks]."""


class Size(NamedTuple):
    """Images and widths."""

    name: str
    channels: int
    side: int
    widths: tuple[int, int]
    batch: int


SIZES = (Size("8×8", 1, 8, (8, 16), 64), Size("32×32", 3, 32, (16, 32), 128))


def weights_of(size: Size, count: int, device: str) -> Weights:
    """Draw the weights of all networks, stacked: [networks, …]."""
    source = torch.Generator().manual_seed(0)
    first, second = size.widths
    shapes = {
        "first": (first, size.channels, 3, 3),
        "second": (second, first, 3, 3),
        "last": (CLASSES, second),
    }
    return {
        name: torch.stack(
            [
                torch.randn(shape, generator=source) * (2 / (shape[1] * 9)) ** 0.5
                for _ in range(count)
            ]
        ).to(device)
        for name, shape in shapes.items()
    }


def batches_of(size: Size, count: int, device: str) -> tuple[Tensor, Tensor]:
    """Draw the images of all networks, [networks, batch, channels, side, side], and their labels."""
    source = torch.Generator().manual_seed(1)
    shape = (count, size.batch, size.channels, size.side, size.side)
    labels = torch.randint(0, CLASSES, shape[:2], generator=source)
    return torch.randn(shape, generator=source).to(device), labels.to(device)


def loss_of(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
    """Return one network's loss on its images."""
    hidden = conv2d(images, weights["first"], padding=1).relu()
    hidden = conv2d(hidden, weights["second"], padding=1, stride=2).relu()
    return cross_entropy(hidden.mean((2, 3)) @ weights["last"].T, labels)


def one_by_one(weights: Weights, images: Tensor, labels: Tensor) -> list[Step]:
    """Return a step for each network."""
    step = grad_and_value(loss_of)

    def network(number: int) -> Step:
        own = {name: value[number].clone() for name, value in weights.items()}

        def go() -> Tensor:
            gradients, loss = step(own, images[number], labels[number])
            descend(own, gradients)
            return loss[None]

        return go

    return [network(number) for number in range(len(images))]


def by_vmap(weights: Weights, images: Tensor, labels: Tensor) -> list[Step]:
    """Return a step of all networks, by torch.func."""
    own = {name: value.clone() for name, value in weights.items()}
    step = vmap(grad_and_value(loss_of))

    def go() -> Tensor:
        gradients, losses = step(own, images, labels)
        descend(own, gradients)
        return losses

    return [go]


def grouped(weights: Weights, images: Tensor, labels: Tensor) -> list[Step]:
    """Return a step of all networks, with a group of each convolution for each network."""
    count, batch = images.shape[:2]
    own = {name: value.clone() for name, value in weights.items()}
    side_by_side = images.transpose(0, 1).flatten(1, 2).contiguous()

    def losses_of(own: Weights) -> tuple[Tensor, Tensor]:
        first, second = (own[name].flatten(0, 1) for name in ("first", "second"))
        hidden = conv2d(side_by_side, first, padding=1, groups=count).relu()
        hidden = conv2d(hidden, second, padding=1, stride=2, groups=count).relu()
        features = hidden.mean((2, 3)).view(batch, count, -1).transpose(0, 1)
        outputs = torch.bmm(features, own["last"].transpose(1, 2))
        losses = cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none")
        losses = losses.view(count, batch).mean(1)
        return losses.sum(), losses

    step = grad_and_value(losses_of, has_aux=True)

    def go() -> Tensor:
        gradients, (_, losses) = step(own)
        descend(own, gradients)
        return losses

    return [go]


def descend(weights: Weights, gradients: Weights) -> None:
    """Do a step of SGD in place."""
    for name, value in weights.items():
        value.add_(gradients[name], alpha=-RATE)


WAYS = {"one by one": one_by_one, "vmap": by_vmap, "grouped": grouped}


def check(size: Size, count: int, device: str) -> None:
    """Raise AssertionError where the ways do not come to the same losses."""
    weights, batches = weights_of(size, count, device), batches_of(size, count, device)
    found = {}
    for name, way in WAYS.items():
        steps = way(weights, *batches)
        found[name] = torch.stack(
            [torch.cat([step() for step in steps]) for _ in range(CHECKED)]
        ).cpu()
    for losses in found.values():
        torch.testing.assert_close(losses, found["one by one"], rtol=TOLERANCE, atol=TOLERANCE)


def timed(steps: Sequence[Step], device: str, turns: int) -> Callable[[], float]:
    """Return what times so many steps of all networks, in seconds a step."""
    calls: list[Callable[[], object]] = [*steps]
    if device != "cpu":
        calls = [recorded(step) for step in steps]

    def go() -> float:
        started = time.perf_counter()
        for _ in range(turns):
            for call in calls:
                call()
        if device != "cpu":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / turns

    return go


def recorded(step: Step) -> Callable[[], None]:
    """Record a step as a CUDA graph. Returns what replays it on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()

    def replay() -> None:
        with torch.cuda.stream(stream):
            graph.replay()

    return replay


def measure(size: Size, count: int, device: str, rounds: int, turns: int) -> dict[str, float]:
    """Return the median seconds a step of each way; they take turns."""
    weights, batches = weights_of(size, count, device), batches_of(size, count, device)
    ways = {name: timed(way(weights, *batches), device, turns) for name, way in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            times[name].append(ways[name]())
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print a line for each size and number of networks."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.batched")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--unchecked", action="store_true", help="do not compare losses first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    print("images  networks  one by one, ms  vmap ×  grouped ×   (× faster than one by one)")
    for size in SIZES:
        for count in options.networks:
            if not options.unchecked:
                check(size, count, options.device)
            found = measure(size, count, options.device, options.rounds, options.turns)
            base = found["one by one"]
            ratios = [base / found[name] for name in ("vmap", "grouped")]
            print(
                f"{size.name:6}  {count:8}  {1000 * base:14.3f}  "
                + "  ".join(f"{each:6.2f}" for each in ratios),
                flush=True,
            )


if __name__ == "__main__":
    main()
