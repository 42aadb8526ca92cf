"""Untrusted pickles, read without executing anything in them.

A pickle is a program: it imports classes and functions by name, calls them, and modifies the results. Here it imports
none of them. For each name it gets a placeholder class whose objects only record the arguments they were called with,
and the state and the items they were given. The caller then inspects these records.

A small pickle can also describe a value that takes any time to hash, or any memory to copy, by referring to one part
many times. ``check_steps`` refuses the first before anything is loaded; whoever copies parts has to count them.
"""

import io
import math
import pickle
import pickletools
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

# In pickles of NumPy 2 and of NumPy 1, which had other module names.
_ARRAYS = {("numpy._core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "_reconstruct")}
_BUFFERS = {("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")}
_DTYPE = ("numpy", "dtype")
NUMPY = _ARRAYS | _BUFFERS | {_DTYPE, ("numpy", "ndarray")}

# What the protocols 0 to 2 call to make bytes and, before 2, objects.
_ENCODED = ("_codecs", "encode")
_BYTES = {("__builtin__", "bytes"), ("builtins", "bytes")}
_RECONSTRUCTED = {("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")}

# Tuples in tuples are hashed anew each time, and recursively: this many parts, each counted as often as it occurs.
MOST_PARTS = 2_000

# Whole numbers beyond 2^53 in a pickle: by such numbers, the keys of a dict can all be given one hash.
MOST_LARGE_NUMBERS = 1_000

# Nodes of a graph, each counted as often as it occurs; the handout's has 13.
MOST_NODES = 100


class Recorded:
    """An object in a pickle, not constructed, but recorded.

    Attributes:
        origin: (module, name) of the class or function that the pickle imports.
        arguments: those it was called with.
        state: what would have become its attributes, usually a dict; None if nothing.
        items: the elements, if it is a kind of list.
        entries: the values by key, if it is a kind of dict.
    """

    origin: tuple[str, str]
    arguments: tuple
    state: Any
    items: list
    entries: dict

    def __new__(cls, *arguments: Any) -> "Recorded":
        recorded = super().__new__(cls)
        recorded.arguments = arguments
        recorded.state = None
        recorded.items = []
        recorded.entries = {}
        return recorded

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: list) -> None:
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value


class _Reconstructed(Recorded):
    """``copyreg._reconstructor(kind, base, state)``: the object itself, of the class ``kind``."""

    def __new__(cls, *arguments: Any) -> Recorded:  # type: ignore[misc]
        kind, _, state = arguments
        if not (isinstance(kind, type) and issubclass(kind, Recorded)):
            raise pickle.UnpicklingError("it makes an object of what is no class")
        recorded = Recorded.__new__(kind)
        if type(state) is list:
            recorded.items = state  # and not a copy: the pickle may ask for any number of them
        elif type(state) is dict:
            recorded.entries = state
        return recorded


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, admitted: set[tuple[str, str]] | None) -> None:
        super().__init__(file)
        self.admitted = admitted
        self.classes: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> type:
        origin = module, name
        if self.admitted is not None and origin not in self.admitted:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs")
        if origin not in self.classes:  # a new class for each pickle, since a pickle can modify it
            kind = _Reconstructed if origin in _RECONSTRUCTED else Recorded
            self.classes[origin] = type(name, (kind,), {"origin": origin})
        return self.classes[origin]


def read_pickle(content: bytes, admitted: set[tuple[str, str]] | None = None, most_steps: int = 10_000) -> Any:
    """The content of a pickle: plain values as they are, and a ``Recorded`` for every object.

    Args:
        admitted: (module, name) of all that it may import; None: anything.
        most_steps: limit on its opcodes; our pickles have some hundred.

    Raises:
        Exception: of any type, if it is damaged, imports what is not admitted, or is made to exhaust time or memory.
    """
    check_steps(content, most_steps)
    return _Unpickler(io.BytesIO(content), admitted).load()


def check_steps(content: bytes, most_steps: int) -> None:
    """Follows the opcodes of a pickle without loading it; any exception if it is damaged, or made to exhaust memory.

    It keeps, for each value on the stack, the number of parts that hashing it would visit: for a tuple the sum of those
    of its elements and 1, for all else 1. By this number a tuple of references to itself is found, before it becomes
    the key of a dict.
    """
    mark = large_numbers = 0
    stack: list[int] = []
    table: dict[int, int] = {}
    operations: Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]] = pickletools.genops(content)
    for steps, (operation, argument, place) in enumerate(operations, 1):
        if steps > most_steps:
            raise pickle.UnpicklingError("it has too many steps, or more after its end")
        large_numbers += type(argument) is int and abs(argument) > 2**53
        if large_numbers > MOST_LARGE_NUMBERS:
            raise pickle.UnpicklingError("it holds too many large numbers")
        name, before = operation.name, operation.stack_before
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            slot = len(table) if name == "MEMOIZE" else int(argument)
            if slot >= most_steps:
                raise pickle.UnpicklingError("it asks for a table of great size")
            table[slot] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(table[int(argument)])
        elif name == "MARK":
            stack.append(mark)
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            parts = []
            if pickletools.markobject in before:
                while stack[-1] != mark:
                    parts.append(stack.pop())
                stack.pop()
                before = before[: before.index(pickletools.markobject)]
            parts += [stack.pop() for _ in before]
            together = 1 + sum(parts) if name.startswith(("TUPLE", "FROZENSET")) else 1
            if together > MOST_PARTS:
                raise pickle.UnpicklingError("it holds tuples in tuples without end")
            stack += [together] * len(operation.stack_after)
        if name == "STOP" and place != len(content) - 1:
            raise pickle.UnpicklingError("it has too many steps, or more after its end")


def origin_of(value: Any) -> tuple[str, str] | None:
    """(module, name) of the class or function that an object comes from; None for a plain value."""
    return value.origin if isinstance(value, Recorded) else None


def array_of(recorded: Any) -> np.ndarray:
    """The array of float32 or float64 that was recorded; ValueError if it is none, or has the wrong number of bytes."""
    if origin_of(recorded) in _ARRAYS:
        _, shape, dtype, column_major, content = recorded.state
    elif origin_of(recorded) in _BUFFERS:
        content, dtype, shape, order = recorded.arguments
        column_major = order == "F"
    else:
        raise ValueError(f"it holds a {type(recorded).__name__}, expected an array")
    kind = dtype.arguments[0] if origin_of(dtype) == _DTYPE else dtype
    if kind not in ("f4", "f8"):
        raise ValueError(f"it holds an array of {reprlib.repr(kind)}, expected floats")
    if origin_of(content) == _ENCODED and content.arguments[1] == "latin1":
        content = content.arguments[0].encode("latin1")
    elif origin_of(content) in _BYTES and not content.arguments:
        content = b""
    if type(shape) is not tuple or not all(type(side) is int and 0 <= side < 2**32 for side in shape):
        raise ValueError(f"it holds an array of shape {reprlib.repr(shape)}")
    # The state of a dtype begins with its version and its byte order; the rest is not used for floats.
    byte_order = dtype.state[1] if dtype.state else "="
    array = np.frombuffer(content, np.dtype({"<": "<", ">": ">", "=": "="}[byte_order] + kind))
    if array.size != math.prod(shape):
        raise ValueError(f"it holds an array of shape {shape} with {array.size} numbers in it")
    return array.reshape(shape, order="F" if column_major else "C").astype(array.dtype.newbyteorder("="))
