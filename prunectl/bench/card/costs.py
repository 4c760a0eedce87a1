"""Step `costs`: what precision, fusing kernels, graphs and deterministic kernels cost or save."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from prunectl.bench.card.records import Order, Outcome
from prunectl.bench.card.steps import NETWORKS
from prunectl.bench.card.timing import timed
from prunectl.bench.card.training import cifar_work
from prunectl.bench.records import Options
from prunectl.bench.rounds import Contender

CHANGES: dict[str, tuple[str, dict[str, Any], Options]] = {
    "fp32": ("strict fp32, graphs", {"precision": "fp32"}, Options()),
    "tf32": ("TF32, graphs", {}, Options()),
    "bf16": ("bf16, graphs", {"precision": "bf16"}, Options()),
    "fp16": ("fp16, graphs", {"precision": "fp16"}, Options()),
    "eager": ("TF32, eager", {}, Options(graphs=False)),
    "fused": ("TF32, eager, fused", {}, Options(graphs=False, fuse=True)),
    "fused-graphs": ("TF32, graphs, fused", {}, Options(fuse=True)),
    "nondeterministic": ("TF32, graphs, kernels of any kind", {"deterministic": False}, Options()),
}
"""Of each variant what it is called, what of the work it changes, and its options."""


def run(order: Order) -> Outcome:
    """Time a trainer in one variant."""
    network = next(name for name in NETWORKS if order.part.startswith(f"{name}-"))
    label, changes, options = CHANGES[order.part.removeprefix(f"{network}-")]
    work = replace(cifar_work(order, network), **changes)
    return timed(order, Contender(f"{network}: {label}", "trainer", work, options))
