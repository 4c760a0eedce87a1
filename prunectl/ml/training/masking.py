"""Keeps pruned weights at zero.

The weights are multiplied by their masks after every optimizer step. Masking gradients alone would not do:
momentum from before the pruning moves the weights on, and so does Adam's. Momenta of pruned weights are zeroed
when a state is loaded or taken; in between they reach no other weight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from prunectl.ml.training.transfer import upload


class Masking:
    """The masks of one network, in buffers that never move."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        kernels: Collection[str],
        momenta: Callable[[str], list[Tensor]],
    ) -> None:
        """`kernels` are the names among `parameters` that always have a buffer; others (BatchNorm's, where whole
        channels go) get one when they are first masked. `momenta` gives the optimizer's tensors of a parameter.
        """
        self._parameters = {name: value.detach() for name, value in parameters.items()}
        self._kernels = tuple(kernels)
        self._momenta = momenta
        self._masks: dict[str, Tensor] = {}
        self._pairs: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._active = False

    @property
    def variant(self) -> tuple[str, ...]:
        """Names of the parameters that `apply` multiplies: it launches the same kernels while these stay the same."""
        return tuple(self._masks) if self._active else ()

    def set(self, masks: Mapping[str, Tensor] | None) -> None:
        """Copy new masks (bool, True is kept) into place, or remove all; parameters without a mask stay whole.

        Raises ValueError for a mask that fits no parameter.
        """
        if masks is None:
            self._active = False
            return
        for name, mask in masks.items():
            if name not in self._parameters or mask.shape != self._parameters[name].shape:
                raise ValueError(f"no parameter {name} of shape {tuple(mask.shape)} to mask")
        for name in (*self._kernels, *masks):
            if name not in self._masks:
                # Like the weights in type and layout: otherwise torch multiplies tensor by tensor.
                self._masks[name] = torch.ones_like(self._parameters[name])
        upload([(buffer, masks[name]) for name, buffer in self._masks.items() if name in masks])
        for name, buffer in self._masks.items():
            if name not in masks:
                buffer.fill_(1)
        self._pairs = [self._parameters[name] for name in self._masks], [*self._masks.values()]
        self._active = True
        self.clear()

    def apply(self) -> None:
        """Multiply the weights by their masks, all in one call; part of the step."""
        if self._active:
            torch._foreach_mul_(*self._pairs)

    def clear(self) -> None:
        """Make pruned weights and their momenta exactly +0, also where they are not finite (∞·0 is not 0)."""
        if not self._active:
            return
        for name, mask in self._masks.items():
            pruned = mask == 0
            for tensor in (self._parameters[name], *self._momenta(name)):
                tensor.masked_fill_(pruned, 0)
