"""What a step on CUDA must not do, found in one step of a trainer, with the line of code that does it.

A step is recorded as a graph, so it may not read from the device, draw random numbers, or keep tensors of its own for
the next step; it should not copy between layouts or wait. Every operation that reaches the device is looked at, forward
and backward, with its real strides: on the fake CUDA runtime as on a card. Those of the backward pass are told by the
line of the forward pass that they belong to. Not seen is what one operation's code in C++ does inside it, except waits.
"""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prunectl.ml.training.cuda_graphs import Step
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.seeds import Seeds
from tests.support.waiting import no_waits

TORCH = Path(torch.__file__).parent
FRAME = re.compile(r'File "(.+)", line (\d+), in ')
CONVOLUTIONS = ("aten::convolution", "aten::convolution_backward")
FLOAT32 = ("aten::_log_softmax", "aten::nll_loss_forward", "aten::mse_loss")
"""Operations of losses."""
NORMALISATIONS = ("batch_norm", "layer_norm", "group_norm")
LOW = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Broken:
    """A rule broken, by which operation, and where."""

    rule: str
    """``reads``: a value, or a shape that depends on values, is read from the device. ``devices``: tensors of host and
    device are mixed, or copied to the other. ``waits``: the host waits for the device. ``random``: numbers are drawn
    on the device. ``layout``: a convolution of images or weights that are not channels last, or a copy into another
    layout. ``precision``: a loss or statistics in half precision. ``kept``: a tensor made in one step is used in the
    next. ``changed``: a tensor is changed that is not among those that recording puts back. ``error``: torch refuses
    it."""
    operation: str
    where: str
    """File and line, ``network.py:12``."""

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.operation}"


def broken_rules(made: Trainer, steps: int = 2) -> list[Broken]:
    """Do training steps and evaluate a batch, launched one by one, and return the rules they break, each once.

    The trainer must not be used any more.
    """
    found: list[Broken] = []
    watch = _Watch(made, found)
    with made.slot.queue(), contextlib.suppress(RuntimeError):
        for step in range(steps):
            made.module.train()
            watch.look_at(made._step, *made.batches.get(Seeds.of(0), 0, step))
        made.module.eval()
        for pixels, targets in made.images.parts("test", made.evaluator.batch) or ():
            watch.look_at(made.evaluator.add, pixels, targets)
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def _traced_backward() -> Iterator[None]:
    """Let operations of the backward pass know their lines of the forward pass."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Anomaly Detection")
        with torch.autograd.detect_anomaly(check_nan=False):
            yield


class _Watch(TorchDispatchMode):
    """Looks at every operation of steps."""

    def __init__(self, made: Trainer, found: list[Broken]) -> None:
        super().__init__()
        self._found = found
        self._step = 0
        self._born: dict[int, tuple[int, StorageWeakRef]] = {}
        """By address: the step that made a storage. While a weak reference lives, no other gets its address."""
        kept = [*made._changed(), *made.evaluator.changed(), *made.precision._cast.values()]
        if made.optimizer.loss_scale is not None:
            kept.append(made.optimizer.loss_scale.found)
        self._may_change = {_storage(tensor): tensor for tensor in kept}
        self._copied: tuple[int, Broken] | None = None
        """The last operation's copy into another layout, and where it went."""

    def look_at(self, step: Step, pixels: Tensor, targets: Tensor) -> None:
        """Do one step. Raises RuntimeError where torch does."""
        self._step += 1
        try:
            with _traced_backward(), self:
                step(pixels, targets)
        except RuntimeError as error:
            if not self._found or self._found[-1].rule != "error":
                self._found.append(Broken("error", str(error).split("\n", 1)[0], _where()))
            raise

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out, waited = self._done(func, args, kwargs)
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        made = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        if any(each.is_cuda for each in (*given, *made)):
            rules = [rule for rule, breaks in RULES.items() if breaks(func, given, made)]
            if waited and not {"reads", "devices"} & set(rules):
                rules.append("waits")
            for rule in rules:
                self._tell(rule, func)
        self._follow_layout(func, given, made)
        self._follow_storages(func, given, made, _written(func, args, kwargs))
        return out

    def _done(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, bool]:
        """Return what an operation gives, and whether the host waited for it."""
        try:
            with no_waits():
                return func(*args, **kwargs), False
        except RuntimeError as error:
            if "synchronizing CUDA operation" not in str(error):
                self._tell("error", func)
                raise
        return func(*args, **kwargs), True

    def _tell(self, rule: str, func: Any) -> None:
        self._found.append(Broken(rule, func._schema.name, _where()))

    def _follow_layout(self, func: Any, given: list[Tensor], made: list[Tensor]) -> None:
        """A copy that is flattened at once is no copy of images: dense layers follow the convolutions."""
        if self._copied is not None:
            storage, broken = self._copied
            flattened = [out for out in made if _storage(out) == storage and out.ndim < 4]
            if not flattened:
                self._found.append(broken)
            self._copied = None
        if not func.is_view and any(map(_rows, made)) and any(map(_pixels, given)):
            broken = Broken("layout", func._schema.name, _where())
            if func._schema.name == "aten::clone":
                self._copied = _storage(made[0]), broken
            else:
                self._found.append(broken)

    def _follow_storages(
        self, func: Any, given: list[Tensor], made: list[Tensor], written: list[Tensor]
    ) -> None:
        if any(self._born.get(_storage(each), (self._step,))[0] != self._step for each in given):
            self._tell("kept", func)
        known = {*self._born, *self._may_change}
        if any(_storage(each) not in known for each in written):
            self._tell("changed", func)
        before = {_storage(tensor) for tensor in given}
        for tensor in made:
            storage = tensor.untyped_storage()
            if storage._cdata not in before and storage._cdata not in self._born:
                self._born[storage._cdata] = self._step, StorageWeakRef(storage)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the tensors that an operation changes."""
    schema = func._schema.arguments
    named = dict(zip((each.name for each in schema), args, strict=False)) | kwargs
    changed = [
        named.get(each.name) for each in schema if each.alias_info and each.alias_info.is_write
    ]
    return [each for each in tree_leaves(changed) if isinstance(each, Tensor)]


# --- rules of a single operation: its tensors, given and made -------------------------------------


def _reads(func: Any, given: list[Tensor], made: list[Tensor]) -> bool:
    if func._schema.name == "aten::index":  # its shape depends on values where masks are indices
        return any(each.dtype in (torch.bool, torch.uint8) for each in given[1:])
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return bool(tags & set(func.tags))


def _devices(func: Any, given: list[Tensor], made: list[Tensor]) -> bool:
    return len({each.device.type for each in (*given, *made)}) > 1 and not func.is_view


def _random(func: Any, given: list[Tensor], made: list[Tensor]) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags


def _layout(func: Any, given: list[Tensor], made: list[Tensor]) -> bool:
    return func._schema.name in CONVOLUTIONS and any(map(_rows, given))


def _precision(func: Any, given: list[Tensor], made: list[Tensor]) -> bool:
    name = func._schema.name
    if name in FLOAT32:
        return given[0].dtype in LOW
    if any(part in name for part in NORMALISATIONS):
        return any(each.dtype in LOW for each in given if each.ndim == 1)
    return False


RULES: dict[str, Callable[[Any, list[Tensor], list[Tensor]], bool]] = {
    "reads": _reads,
    "devices": _devices,
    "random": _random,
    "layout": _layout,
    "precision": _precision,
}


def _rows(tensor: Tensor) -> bool:
    """Whether images (or kernels) are stored a channel after the other, and could be stored otherwise."""
    if tensor.ndim != 4 or not tensor.is_cuda:
        return False
    return not tensor.is_contiguous(memory_format=torch.channels_last) and min(tensor.shape) > 0


def _pixels(tensor: Tensor) -> bool:
    """Whether images (or kernels) are stored a pixel after the other, and could be stored otherwise."""
    if tensor.ndim != 4 or not tensor.is_cuda:
        return False
    last = tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


# --- lines ----------------------------------------------------------------------------------------


def _where() -> str:
    """Return the innermost line outside of torch and of this file, or, in a backward pass, of the forward pass."""
    error = sys.exc_info()[1]
    if error is not None:
        inner = [(f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__)]
        outside = [place for place in inner if _outside(place[0])]
        if outside:
            return _short(*outside[-1])
    frame = sys._getframe()
    while frame is not None and not _outside(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    node = torch._C._current_autograd_node()
    # Backward passes run on a thread of their own, without frames below.
    if node is not None and (frame is None or frame.f_code is Trainer._backward.__code__):
        for line in reversed(node.metadata.get("traceback_", [])):
            found = FRAME.search(line)
            if found and _outside(found[1]):
                return _short(found[1], int(found[2]))
    return "torch" if frame is None else _short(frame.f_code.co_filename, frame.f_lineno)


def _outside(file: str) -> bool:
    path = Path(file)
    return path.is_absolute() and not path.is_relative_to(TORCH) and path != Path(__file__)


def _short(file: str, line: int) -> str:
    return f"{Path(file).name}:{line}"
