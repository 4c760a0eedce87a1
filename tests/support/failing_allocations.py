"""Memory that runs out at any operation of torch that takes some, on whatever device."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OutOfMemoryAt(TorchDispatchMode):
    """Raises OutOfMemoryError in place of the n-th operation inside that makes a tensor of its own; 0 for none."""

    def __init__(self, operation: int) -> None:
        super().__init__()
        self.left = operation
        """Operations until it raises; 0 where it has."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.left > 0 and _allocates(func):
            self.left -= 1
            if self.left == 0:
                raise torch.OutOfMemoryError(f"{func}: no memory, as this test wants it")
        return func(*args, **(kwargs or {}))


def _allocates(func: Any) -> bool:
    returns = func._schema.returns
    return bool(returns) and all(result.alias_info is None for result in returns)
