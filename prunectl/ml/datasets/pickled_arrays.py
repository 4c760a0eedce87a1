"""Reads pickles of plain containers, numbers, texts and numpy's arrays of bytes, without executing them.

The standard library's unpickler calls what a file names, and allocates what it says. Here the opcodes are followed by
hand: nothing is imported or called by a name in the file, and arrays take no more memory than the file has bytes.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class _Name(NamedTuple):
    """A global that the file names."""

    module: str
    name: str


@dataclass(eq=False)
class _Object:
    """What a file wants made by a call, and the state that it is to be given then."""

    function: _Name
    arguments: tuple[Any, ...]
    state: Any = None


class _Mark:
    """Stands on the stack where a container's items begin."""


MOST_OPCODES = 1_000_000
"""Three times those of the published file that has the most, CIFAR-100's of 50,000 images."""

RECONSTRUCT = {
    _Name("numpy._core.multiarray", "_reconstruct"),
    _Name("numpy.core.multiarray", "_reconstruct"),  # before numpy 2, and so Python 2's
}
NDARRAY, DTYPE, ENCODE = (
    _Name("numpy", "ndarray"),
    _Name("numpy", "dtype"),
    _Name("_codecs", "encode"),
)
NAMES = {*RECONSTRUCT, NDARRAY, DTYPE, ENCODE}
"""All that a file may name: what a pickled array consists of."""

_PUSHED = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT", "FLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "UNICODE"),
        *("BINBYTES", "SHORT_BINBYTES"),
    }
)
"""Opcodes whose argument is the value."""
_BYTE_STRINGS = frozenset({"BINSTRING", "SHORT_BINSTRING", "STRING"})
"""Python 2's; pickletools decodes them as Latin-1."""
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_SMALL_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


def parse_pickle(data: bytes) -> Any:
    """Return what a pickle holds, of an array what `as_array` takes.

    Raises ValueError where that is anything else than the module says.
    """
    reader = _Reader(room=len(data))
    try:
        with warnings.catch_warnings():
            # Of escapes in texts that Python no longer knows: what a damaged file holds is said by its reader.
            warnings.simplefilter("ignore", DeprecationWarning)
            for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
                if number >= MOST_OPCODES:
                    raise ValueError(f"more than {MOST_OPCODES:,} opcodes")
                reader.follow(opcode.name, argument)
        return reader.stack.pop()
    except (LookupError, TypeError) as error:
        raise ValueError(f"a damaged pickle ({type(error).__name__}: {error})") from error


def as_array(pickled: Any) -> NDArray[np.uint8]:
    """Return a pickled array of bytes, of any shape. Raises ValueError for anything else."""
    match pickled:
        case _Object(
            function,
            (_, _, _),
            (_, tuple(shape), _Object(_, (b"u1" | "u1", *_)), bool(by_column), bytes(data)),
        ) if function in RECONSTRUCT and all(type(size) is int and size >= 0 for size in shape):
            if math.prod(shape) != len(data):
                raise ValueError(f"{len(data):,} bytes do not hold an array of shape {shape}")
            flat = np.frombuffer(data, np.uint8)
            return flat.reshape(shape, order="F" if by_column else "C")
    raise ValueError("not an array of bytes")


class _Reader:
    """A pickle's stack and memo."""

    def __init__(self, room: int) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._room = room
        """Bytes that calls may still make: a text that is written once may be called for again and again."""

    def follow(self, opcode: str, argument: Any) -> None:
        """Do what one opcode says. Raises ValueError for one that no container of arrays needs."""
        stack = self.stack
        if opcode in _PUSHED:
            stack.append(argument)
        elif opcode in _BYTE_STRINGS:
            stack.append(argument.encode("latin-1"))
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            stack.append(_EMPTY[opcode]())
        elif opcode in _PUT:
            self._memo[int(argument)] = stack[-1]
        elif opcode in _GET:
            stack.append(self._memo[int(argument)])
        elif opcode in _SMALL_TUPLES:
            count = _SMALL_TUPLES[opcode]
            items = tuple(stack[-count:])
            del stack[-count:]
            stack.append(items)
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            self._build(opcode, argument)

    def _build(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "MARK":
                stack.append(_Mark)
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "TUPLE":
                stack.append(tuple(self._items()))
            case "APPEND":
                item = stack.pop()
                _extend(stack[-1], [item])
            case "APPENDS":
                items = self._items()
                _extend(stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set(stack[-1], [key], [value])
            case "SETITEMS":
                items = self._items()
                _set(stack[-1], items[::2], items[1::2])
            case "GLOBAL":
                stack.append(_allowed(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_allowed(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                made = _called(function, arguments)
                if isinstance(made, bytes):
                    self._room -= len(made)
                if self._room < 0:
                    raise ValueError("a damaged pickle (it makes more bytes than it has)")
                stack.append(made)
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], _Object):
                    raise ValueError("a damaged pickle (a state for what has none)")
                stack[-1].state = state
            case _:
                raise ValueError(f"the file uses {opcode}, which no image needs")

    def _items(self) -> list[Any]:
        """Take the items down to the mark off the stack."""
        stack = self.stack
        start = len(stack) - 1
        while stack[start] is not _Mark:
            start -= 1
            if start < 0:
                raise ValueError("a container's beginning is missing")
        items = stack[start + 1 :]
        del stack[start:]
        return items


def _extend(container: Any, items: list[Any]) -> None:
    if not isinstance(container, list):
        raise ValueError("a damaged pickle (items for what is no list)")
    container.extend(items)


def _set(container: Any, keys: list[Any], values: list[Any]) -> None:
    # Other keys may be nested so deeply that hashing them ends the process.
    if not isinstance(container, dict) or not all(isinstance(key, str | bytes) for key in keys):
        raise ValueError("a damaged pickle (keys that are no texts, or for what has none)")
    container.update(zip(keys, values, strict=True))


def _allowed(module: Any, name: Any) -> _Name:
    wanted = _Name(str(module), str(name))
    if wanted not in NAMES:
        raise ValueError(f"the file asks for {module}.{name}, which no image needs")
    return wanted


def _called(function: Any, arguments: Any) -> Any:
    """Return the bytes that Python 3 writes as a call, or what stands for another one."""
    match function, arguments:
        case _Name(), (str(text), "latin1" | "latin-1") if function == ENCODE:
            return text.encode("latin-1")
        case _Name(), tuple() if function != ENCODE:
            return _Object(function, arguments)
    raise ValueError("a damaged pickle (a call of what cannot be called)")
