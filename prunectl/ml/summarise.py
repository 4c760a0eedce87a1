"""Making a network's summary, in milliseconds, by sending an empty batch through it.

As a process, `python -m prunectl.ml.summarise`, it answers each line of stdin, a `Question`, by a line of stdout, an
`Answer`, until stdin ends: so whoever asks needs no torch of its own.
"""

from __future__ import annotations

import bisect
import sys
from functools import lru_cache, partial

import msgspec
import torch
from msgspec.structs import asdict, replace
from torch import nn

from prunectl.errors import NetworkMisfit
from prunectl.ml.network_summary import Answer, LayerInfo, NetworkSummary, Question
from prunectl.ml.networks.build import skeleton
from prunectl.ml.output_shapes import Unfit, calls
from prunectl.ml.pruning import channel_graph
from prunectl.ml.pruning.layers import layers
from prunectl.spec.settings import NetworkSettings, Shape

LARGEST_SIDE = 256
"""Of the images that are tried where a network does not fit, to say which it takes."""
FEWEST_TRIED = 8
"""Images that a network must be able to train on at once: with fewer it may fail, as BatchNorm does on one value."""


@lru_cache(maxsize=256)
def summarise(settings: NetworkSettings) -> NetworkSummary:
    """Summarise a network.

    Raises UnknownName for the network, NetworkMisfit where the network cannot take images of `settings.shape` or
    `settings.classes` is below 1.
    """
    network, outputs = _fitting(settings)
    infos = []
    for layer in layers(network):
        shape = tuple(network.get_parameter(layer.parameter).shape)
        weights = torch.Size(shape).numel()
        positions = outputs[layer.name][1:].numel()
        infos.append(
            LayerInfo(**asdict(layer), shape=shape, weights=weights, macs=weights * positions)
        )
    return NetworkSummary(sum(p.numel() for p in network.parameters()), tuple(infos))


@lru_cache(maxsize=256)
def examine(settings: NetworkSettings, *, readers: bool = False) -> NetworkSummary:
    """Summarise a network with all that a plan is checked by: a `plan.levels.Check`.

    With `readers` it is also said which convolution reads which. Raises as `summarise`, its NetworkMisfit with the
    nearest shape that fits; also where the network cannot evaluate one image, or train on `FEWEST_TRIED`.
    """
    try:
        summary = summarise(settings)
    except NetworkMisfit as error:
        raise NetworkMisfit(str(error), _nearest_fit(settings)) from error
    smallest, why = _smallest_batch(settings)
    read_by = channel_graph.readers(skeleton(settings)) if readers else None
    return replace(summary, readers=read_by, smallest_batch=smallest, fewer_fail=why)


def _fitting(settings: NetworkSettings) -> tuple[nn.Module, dict[str, torch.Size]]:
    """Make the network without values. Returns it and the shape of each layer's output for one image, by the layer's
    name. Raises NetworkMisfit."""
    if settings.classes < 1 or min(settings.shape) < 1:
        raise _misfit(settings, "there must be at least one output and one pixel")
    try:
        network = skeleton(settings, "cpu")
        return network, _shapes(network, settings)
    except (ValueError, RuntimeError) as error:
        raise _misfit(settings, str(error)) from error


def _shapes(
    network: nn.Module, settings: NetworkSettings, images: int = 0, *, training: bool = False
) -> dict[str, torch.Size]:
    """Return the shapes of `calls`, by name. Raises Unfit also where the network's own is not what was asked for."""
    shapes = dict(calls(network, settings.shape, images, training=training))
    if shapes[""] != (settings.classes,):
        raise Unfit(f"its output is {(images, *shapes[''])}")
    return shapes


def _misfit(settings: NetworkSettings, reason: str) -> NetworkMisfit:
    shape = "×".join(map(str, settings.shape))
    return NetworkMisfit(
        f"{settings.name} does not fit images of {shape} and {settings.classes} outputs: {reason}"
    )


def _smallest_batch(settings: NetworkSettings) -> tuple[int, str]:
    """Return how many images a step of training needs at once, and where it fails with one less.

    Raises NetworkMisfit where `FEWEST_TRIED` are too few, or where the network cannot evaluate one.
    """
    why = ""
    try:
        _pass(settings, 1)
        for images in range(1, FEWEST_TRIED):
            try:
                _pass(settings, images, training=True)
            except Unfit as error:
                why = str(error)
            else:
                return images, why
        _pass(settings, FEWEST_TRIED, training=True)
    except Unfit as error:
        raise _misfit(settings, str(error)) from error
    return FEWEST_TRIED, why


def _pass(settings: NetworkSettings, images: int, *, training: bool = False) -> None:
    """Send images through the network. Raises Unfit where that fails, also with numbers on the CPU: without them, on
    the meta device, the largest networks take a tenth of a second, but not every network can do it."""
    try:
        _shapes(skeleton(settings), settings, images, training=training)
    except Unfit:
        _shapes(skeleton(settings, "cpu"), settings, images, training=training)


def _nearest_fit(settings: NetworkSettings) -> Shape | None:
    """Return the shape nearest to the settings' that the network takes: larger, or else of another number of channels.
    None where there is none up to `LARGEST_SIDE`."""
    own, height, width = settings.shape
    sides = range(1, LARGEST_SIDE + 1)
    for channels in dict.fromkeys((own, 3, 1)):
        # What takes one size takes all that are larger: a network that takes a single size is not found.
        first = bisect.bisect_left(sides, True, key=partial(_takes_square, settings, channels))
        if first < len(sides):
            shape = (channels, max(sides[first], height), max(sides[first], width))
            return shape if _takes(settings, shape) else None
    return None


def _takes_square(settings: NetworkSettings, channels: int, side: int) -> bool:
    return _takes(settings, (channels, side, side))


def _takes(settings: NetworkSettings, shape: Shape) -> bool:
    try:
        _fitting(replace(settings, shape=shape))
    except NetworkMisfit:
        return False
    return True


def _answer(question: Question) -> Answer:
    try:
        return Answer(examine(question.network, readers=question.readers))
    except NetworkMisfit as error:
        return Answer(misfit=str(error), fits=error.fits)


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        answer = _answer(msgspec.json.decode(line, type=Question))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
