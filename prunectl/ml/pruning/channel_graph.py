"""Which layer's channels go where, read from a network's graph."""

from __future__ import annotations

from torch import fx, nn
from torch.nn import functional

_PER_CHANNEL = (nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d)
_PER_CHANNEL_CALLS = (functional.relu, functional.max_pool2d)


class _Leaves(fx.Tracer):
    """Traces a network as calls of its innermost modules."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        return not any(module.children())


def _convolutions(network: nn.Module) -> dict[str, fx.Node]:
    """Each convolution's node of the graph, by layer name."""
    return {
        str(node.target): node
        for node in _Leaves().trace(network).nodes
        if isinstance(_module(network, node), nn.Conv2d)
    }


def _module(network: nn.Module, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def norms(network: nn.Module) -> dict[str, str]:
    """The BatchNorm that each convolution's output goes into, where there is one, by layer name."""
    return {
        name: str(user.target)
        for name, node in _convolutions(network).items()
        for user in node.users
        if isinstance(_module(network, user), nn.BatchNorm2d)
    }


def readers(network: nn.Module) -> dict[str, str]:
    """The convolution that alone reads each convolution's channels, where there is one, by layer name.

    In between there are only things that leave channels apart and a zero channel zero once its BatchNorm is
    masked: BatchNorm, ReLU, max-pooling.
    """
    found: dict[str, str] = {}
    for name, node in _convolutions(network).items():
        while len(node.users) == 1:
            (node,) = node.users
            module = _module(network, node)
            if isinstance(module, nn.Conv2d):
                found[name] = str(node.target)
                break
            if not (isinstance(module, _PER_CHANNEL) or node.target in _PER_CHANNEL_CALLS):
                break
    return found
