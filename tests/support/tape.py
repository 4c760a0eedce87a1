"""What a CUDA graph does, on a CPU and with its values: a step's operations, recorded once and done again.

Each operation is done again with the very tensors, and the very Python numbers, that it was recorded with, into the
same memory. Python is not run again. So whatever a step has from anywhere but tensors that never move is missed, as it
is by a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prunectl.ml.training.cuda_graphs import WARM_UP


def record(call: Callable[[], None]) -> Callable[[], None]:
    """Warm a call up and record it; a `Recorder`. Raises RuntimeError where it reads a value."""
    for _ in range(WARM_UP):
        call()
    tape = Tape()
    with tape:
        call()
    return tape.replay


class Tape(TorchDispatchMode):
    """Records operations while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, Any, Any, list[tuple[int, Tensor]]]] = []
        """Operations, their arguments, and which of their results are in memory of their own."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in func.tags:
            raise RuntimeError("a value is read while recording")
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = {_storage(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        made = [(n, e) for n, e in enumerate(tree_leaves(out)) if isinstance(e, Tensor)]
        own = [(n, each.detach()) for n, each in made if _storage(each) not in given]
        # Views of memory that stays where it is need not be made again.
        if own or func._schema.is_mutable:
            self._done.append((func, args, kwargs, own))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        """Do everything again."""
        for func, args, kwargs, own in self._done:
            results = tree_leaves(func(*args, **kwargs))
            for index, place in own:
                place.copy_(results[index])


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
