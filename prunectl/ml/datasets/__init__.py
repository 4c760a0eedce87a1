"""Data sets: a registry free of torch, one small reader per file format, and `load`.

Names are imported when they are first used, so that plans can ask the registry without loading torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunectl.ml.datasets.files import data_root

if TYPE_CHECKING:
    from prunectl.ml.datasets.images import Images, Streamed, load

__all__ = ["Images", "Streamed", "data_root", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prunectl.ml.datasets import images

    return getattr(images, name)
