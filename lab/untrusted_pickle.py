"""Untrusted pickles, read without executing anything in them.

A pickle is a program: it imports classes and functions by name, calls them, and modifies the results. Here it imports
none of them. For each name it gets a placeholder class whose objects only record the arguments they were called with,
and the state and the items they were given. The caller then inspects these records.
"""

import io
import itertools
import math
import pickle
import pickletools
import reprlib
from typing import Any

import numpy as np

# In pickles of NumPy 2 and of NumPy 1, which had other module names.
_ARRAYS = {("numpy._core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "_reconstruct")}
_BUFFERS = {("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")}
_DTYPE = ("numpy", "dtype")
NUMPY = _ARRAYS | _BUFFERS | {_DTYPE, ("numpy", "ndarray")}


class Recorded:
    """An object in a pickle, not constructed, but recorded.

    Attributes:
        origin: (module, name) of the class or function that the pickle imports.
        arguments: those it was called with.
        state: what would have become its attributes, usually a dict; None if nothing.
        items: the elements, if it is a kind of list.
    """

    origin: tuple[str, str]
    arguments: tuple
    state: Any
    items: list

    def __new__(cls, *arguments: Any) -> "Recorded":
        recorded = super().__new__(cls)
        recorded.arguments = arguments
        recorded.state = None
        recorded.items = []
        return recorded

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: list) -> None:
        self.items.extend(items)


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
            self.classes[origin] = type(name, (Recorded,), {"origin": origin})
        return self.classes[origin]


def read_pickle(content: bytes, admitted: set[tuple[str, str]] | None = None, most_steps: int = 10_000) -> Any:
    """The content of a pickle: plain values as they are, and a ``Recorded`` for every object.

    Args:
        admitted: (module, name) of all that it may import; None: anything.
        most_steps: limit on its opcodes; our pickles have some hundred.

    Raises:
        Exception: of any type, if it is damaged, imports what is not admitted, or is made to exhaust the memory.
    """
    steps: list[tuple] = list(itertools.islice(pickletools.genops(content), most_steps))
    if steps[-1][2] != len(content) - 1:
        raise pickle.UnpicklingError("it has too many steps, or more after its end")
    places = [int(place) for operation, place, _ in steps if operation.name in ("PUT", "BINPUT", "LONG_BINPUT")]
    if max(places, default=0) >= most_steps:
        raise pickle.UnpicklingError("it asks for a table of great size")
    return _Unpickler(io.BytesIO(content), admitted).load()


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
    if type(shape) is not tuple or not all(type(side) is int and 0 <= side < 2**32 for side in shape):
        raise ValueError(f"it holds an array of shape {reprlib.repr(shape)}")
    # The state of a dtype begins with its version and its byte order; the rest is not used for floats.
    byte_order = dtype.state[1] if dtype.state else "="
    array = np.frombuffer(content, np.dtype({"<": "<", ">": ">", "=": "="}[byte_order] + kind))
    if array.size != math.prod(shape):
        raise ValueError(f"it holds an array of shape {shape} with {array.size} numbers in it")
    return array.reshape(shape, order="F" if column_major else "C").astype(array.dtype.newbyteorder("="))
