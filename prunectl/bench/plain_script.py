"""A pruning study as a script: dense, then prune by magnitude and fine-tune, seed after seed, with a DataLoader."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from prunectl.bench.baselines import accuracy, pil_batches, train_epoch
from prunectl.bench.records import Work
from prunectl.bench.workload import RATE, network
from prunectl.ml.networks.build import build


def main() -> None:
    """Arguments: training images, test images, epochs, seeds, iterations."""
    train, test, epochs, seeds, iterations = map(int, sys.argv[1:])
    work = Work("lenet-300-100", (1, 28, 28), train, test, epochs)
    torch.set_num_threads(1)
    batches = pil_batches(work, workers=2)
    for seed in range(seeds):
        module = build(network(work), torch.Generator().manual_seed(seed))
        masks: dict[str, Tensor] = {}
        for iteration in range(iterations + 1):
            if iteration:
                masks = pruned(module, 0.7**iteration)
            optimizer = torch.optim.SGD(
                module.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=2e-4
            )
            for _ in range(epochs):
                train_epoch(work, module, optimizer, masks, batches)
                print(seed, iteration, accuracy(work, module, batches))


@torch.no_grad()
def pruned(module: nn.Module, density: float) -> dict[str, Tensor]:
    """Zero all but the largest weights. Returns the masks."""
    weights = {name: value for name, value in module.named_parameters() if value.ndim > 1}
    sizes = torch.cat([value.abs().flatten() for value in weights.values()])
    threshold = sizes.kthvalue(int((1 - density) * len(sizes))).values
    masks = {name: value.abs() > threshold for name, value in weights.items()}
    for name, mask in masks.items():
        weights[name].mul_(mask)
    return masks


if __name__ == "__main__":
    main()
