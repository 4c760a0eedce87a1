"""Copying many tensors between a device and the host at once: one flat buffer, one copy over the bus, at most one wait.

A network has a hundred tensors and more, most of them small: copied one by one, each costs a launch and a wait for all
that is queued (ResNet-20 with momentum: 174). Gathering and scattering on the device takes a few launches for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNMENT = 16
"""Bytes at which tensors begin in the flat buffer: of the widest loads that copying kernels do."""


def download(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return contiguous copies on the CPU of tensors of one device. Waits once for what is queued on the current
    stream."""
    if not tensors or not tensors[0].is_cuda:
        return [_host_copy(tensor) for tensor in tensors]
    flat = torch.empty(_size(tensors), dtype=torch.uint8, device=tensors[0].device)
    _copy_all(_views(flat, tensors), tensors)
    pinned = torch.empty(len(flat), dtype=torch.uint8, pin_memory=True)
    pinned.copy_(flat, non_blocking=True)
    torch.cuda.current_stream(flat.device).synchronize()
    # Copies, so that no checkpoint keeps pinned memory.
    return [_host_copy(view) for view in _views(pinned, tensors)]


def upload(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Copy values (second) that are on the CPU into tensors (first) of one device, in place. Waits for nothing."""
    if not pairs:
        return
    targets = [target for target, _ in pairs]
    values = [value for _, value in pairs]
    if targets[0].is_cuda:
        pinned = torch.empty(_size(targets), dtype=torch.uint8, pin_memory=True)
        for view, value in zip(_views(pinned, targets), values, strict=True):
            view.copy_(value)
        values = _views(pinned.to(targets[0].device, non_blocking=True), targets)
    _copy_all(targets, values)


def _host_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _spans(like: Sequence[Tensor]) -> list[int]:
    return [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in like]


def _size(like: Sequence[Tensor]) -> int:
    return sum(_spans(like))


def _views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return stretches of a flat buffer with the tensors' types, shapes and layouts."""
    views, start = [], 0
    for tensor, span in zip(like, _spans(like), strict=True):
        stretch = flat[start : start + tensor.nbytes].view(tensor.dtype)
        # The same strides on both sides: otherwise they would be copied one by one.
        views.append(
            stretch.as_strided(tensor.shape, torch.empty_like(tensor, device="meta").stride())
        )
        start += span
    return views


def _copy_all(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy lists of tensors of the same types and shapes, in a few launches for each type."""
    by_type: defaultdict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = defaultdict(
        lambda: ([], [])
    )
    for target, value in zip(targets, values, strict=True):
        into, source = by_type[target.dtype]
        into.append(target)
        source.append(value)
    for into, source in by_type.values():
        torch._foreach_copy_(into, source)
