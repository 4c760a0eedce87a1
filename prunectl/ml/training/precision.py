"""Forward passes in the precision of the recipe, by autocast: weights stay float32, and so do BatchNorm's statistics.

Autocast casts every weight where it is used, and its gradient back: two kernels for each layer of a step. Here the
weights of all layers are cast at once before the first forward pass of a step, and their gradients after each backward
pass, in one launch each way, to the same bits.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunectl.ml.output_shapes import Call

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Modules whose parameters autocast casts, all of them."""


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return a context for one pass: autocast of bf16 or fp16, or nothing.

    The cache of autocast keeps casts of weights beyond their change in place, so it is off.
    """
    if precision not in LOW:
        return contextlib.nullcontext()
    return torch.autocast(device.type, LOW[precision], cache_enabled=False)


class Precision:
    """Runs one network's forward passes, with its weights cast in tensors that never move."""

    def __init__(
        self, module: nn.Module, precision: str, called: Sequence[Call], device: torch.device
    ) -> None:
        """`called` are the module's calls of its own modules in a forward pass."""
        self.module = module
        self.name = precision
        self._device = device
        self._weights: list[nn.Parameter] = []
        self._places: list[tuple[dict[str, Any], str]] = []
        """Where modules keep them."""
        self._cast: dict[str, Tensor] = {}
        if precision in LOW:
            for name in _cast_parameters(module, called):
                weight = module.get_parameter(name)
                owner, _, key = name.rpartition(".")
                self._weights.append(weight)
                self._places.append((module.get_submodule(owner)._parameters, key))
                cast = torch.empty_like(weight, dtype=LOW[precision], requires_grad=False)
                self._cast[name] = cast.requires_grad_(weight.requires_grad)

    @torch.no_grad()
    def cast(self) -> None:
        """Cast the weights as they are now, for the forward passes to come."""
        if self._cast:
            torch._foreach_copy_([*self._cast.values()], [*self._weights])

    def forward(self, pixels: Tensor, network: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the network's outputs; `network` is its fused form, which casts by itself."""
        with autocast(self._device, self.name):
            if network is not None:
                return network(pixels)
            with self._in_place():
                outputs: Tensor = self.module(pixels)
                return outputs

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """Let the network see the cast weights in place of its own.

        As torch.func.functional_call does, whose checks cost 7 % of a step of LeNet-300-100 on a CPU.
        """
        for (owner, key), cast in zip(self._places, self._cast.values(), strict=True):
            owner[key] = cast
        try:
            yield
        finally:
            for (owner, key), weight in zip(self._places, self._weights, strict=True):
                owner[key] = weight

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of cast weights to those of the weights themselves, and release them."""
        weights, low = [], []
        for weight, cast in zip(self._weights, self._cast.values(), strict=True):
            if cast.grad is not None:
                weights.append(weight)
                low.append(cast.grad)
                cast.grad = None
        gradients = [torch.empty_like(weight) for weight in weights]
        if gradients:
            torch._foreach_copy_(gradients, low)
        sums: tuple[list[Tensor], list[Tensor]] = [], []
        for weight, gradient in zip(weights, gradients, strict=True):
            if weight.grad is None:
                weight.grad = gradient
            else:  # of a micro-batch before
                sums[0].append(weight.grad)
                sums[1].append(gradient)
        if sums[0]:
            torch._foreach_add_(*sums)


def _cast_parameters(module: nn.Module, called: Sequence[Call]) -> list[str]:
    """Return the names of parameters that are used once in a forward pass, in a layer that autocast casts.

    The gradients of one that is used twice would be added in low precision, which autocast does in float32.
    """
    used = Counter(name for name, _ in called)
    owners = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    names = []
    for name, layer in module.named_modules():
        if type(layer) in LAYERS and used[name] == 1:
            for own, parameter in layer.named_parameters(recurse=False):
                if owners[id(parameter)] == 1:
                    names.append(f"{name}.{own}" if name else own)
    return names
