"""Which of a network's modules are called, and the shapes of what they give, found in milliseconds by sending an empty
batch through it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from prunectl.spec.settings import Shape

Call = tuple[str, torch.Size]
"""Of a module: its name, and the shape of its output for one image."""


class Unfit(ValueError):
    """A network that cannot take images of the shape, in words that follow its name."""


def output_shapes(network: nn.Module, shape: Shape) -> dict[str, torch.Size]:
    """Return the shape of each innermost module's output for one image, by the module's name; the network's own has
    the name "". Raises Unfit."""
    return dict(calls(network, shape))


def calls(network: nn.Module, shape: Shape) -> list[Call]:
    """Return each call of an innermost module in a forward pass; last the network itself, as "".

    In evaluation mode, so that nothing of the network changes. Raises Unfit.
    """
    made: list[Call] = []
    entered = "its input"

    def enter(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal entered
        entered = f"{name}, at {'×'.join(map(str, inputs[0].shape[1:]))}"

    def leave(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        made.append((name, output.shape[1:]))

    hooks = []
    for name, module in network.named_modules():
        if name and not any(module.children()):
            hooks.append(module.register_forward_pre_hook(partial(enter, name)))
            hooks.append(module.register_forward_hook(partial(leave, name)))
    training = network.training
    try:
        with torch.no_grad():
            outputs = network.eval()(torch.empty((0, *shape)))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        raise Unfit(f"it fails in or after {entered}") from error
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return [*made, ("", outputs.shape[1:])]
