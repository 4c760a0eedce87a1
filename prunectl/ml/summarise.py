"""Making a network's summary, in milliseconds, by sending an empty batch through it.

As a process, `python -m prunectl.ml.summarise`, it answers each line of stdin, a `Question`, by a line of stdout, an
`Answer`, until stdin ends: so whoever asks needs no torch of its own.
"""

from __future__ import annotations

import sys
from functools import lru_cache

import msgspec
import torch
from msgspec.structs import asdict, replace
from torch import nn

from prunectl.ml.network_summary import Answer, LayerInfo, NetworkMisfit, NetworkSummary, Question
from prunectl.ml.networks.build import skeleton
from prunectl.ml.output_shapes import Unfit, output_shapes
from prunectl.ml.pruning import channel_graph
from prunectl.ml.pruning.layers import layers
from prunectl.spec.settings import NetworkSettings


@lru_cache(maxsize=256)
def summarise(settings: NetworkSettings, *, readers: bool = False) -> NetworkSummary:
    """Summarise a network; with `readers` also which convolution reads which.

    Raises UnknownName for the network, NetworkMisfit where the network cannot take images of `settings.shape` or
    `settings.classes` is below 1.
    """
    if settings.classes < 1 or min(settings.shape) < 1:
        raise _misfit(settings, "there must be at least one output and one pixel")
    if readers:
        summary = summarise(settings)
        return replace(summary, readers=channel_graph.readers(skeleton(settings)))
    try:
        network = skeleton(settings, "cpu")
    except (ValueError, RuntimeError) as error:
        raise _misfit(settings, str(error)) from error
    outputs = _output_shapes(network, settings)
    infos = []
    for layer in layers(network):
        shape = tuple(network.get_parameter(layer.parameter).shape)
        weights = torch.Size(shape).numel()
        positions = outputs[layer.name][1:].numel()
        infos.append(
            LayerInfo(**asdict(layer), shape=shape, weights=weights, macs=weights * positions)
        )
    return NetworkSummary(sum(p.numel() for p in network.parameters()), tuple(infos))


def _misfit(settings: NetworkSettings, reason: str) -> NetworkMisfit:
    shape = "×".join(map(str, settings.shape))
    return NetworkMisfit(
        f"{settings.name} does not fit images of {shape} and {settings.classes} outputs: {reason}"
    )


def _output_shapes(network: nn.Module, settings: NetworkSettings) -> dict[str, torch.Size]:
    """Return the shape of each layer's output for one image, by the layer's name. Raises NetworkMisfit."""
    try:
        shapes = output_shapes(network, settings.shape)
    except Unfit as error:
        raise _misfit(settings, str(error)) from error
    if shapes[""] != (settings.classes,):
        raise _misfit(settings, f"its output is {(0, *shapes[''])}")
    return shapes


def _answer(question: Question) -> Answer:
    try:
        return Answer(summarise(question.network, readers=question.readers))
    except NetworkMisfit as error:
        return Answer(misfit=str(error))


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        answer = _answer(msgspec.json.decode(line, type=Question))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
