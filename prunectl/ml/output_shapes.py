"""Which of a network's modules are called, and the shapes of what they give, found in milliseconds by sending an empty
batch through it, or one of undefined values."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from prunectl.spec.settings import Shape

Call = tuple[str, torch.Size]
"""Of a module: its name, and the shape of its output for one image."""


class Unfit(ValueError):
    """A network that cannot take images of the shape, in words that follow its name."""


def calls(
    network: nn.Module, shape: Shape, images: int = 0, *, training: bool = False
) -> list[Call]:
    """Return each call of an innermost module in a forward pass of so many images; last the network itself, as "".

    In evaluation mode, so that nothing of the network changes, but where it is asked for `training`. Raises Unfit.
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
    before = network.training
    device = next((parameter.device for parameter in network.parameters()), None)
    try:
        with torch.no_grad():
            outputs = network.train(training)(torch.empty((images, *shape), device=device))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        raise Unfit(f"it fails in or after {entered}") from error
    finally:
        network.train(before)
        for hook in hooks:
            hook.remove()
    if len(outputs) != images:
        raise Unfit(f"of {images} images its output is {tuple(outputs.shape)}")
    return [*made, ("", outputs.shape[1:])]
