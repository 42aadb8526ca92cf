"""Pickles from strangers, read without running anything in them.

A pickle is a program: it asks for classes and functions by name, calls them, and changes what comes back. Here it gets
none of the real things. Whatever it asks for, it is given a class of its own whose objects do nothing but remember: the
arguments they were made with, the state and the items they were given. Whoever reads the pickle then looks at these.
"""

import io
import itertools
import math
import pickle
import pickletools
import reprlib
from typing import Any

import numpy as np

# In a pickle of NumPy 2, and of NumPy 1 as the modules were called then.
_ARRAYS = {("numpy._core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "_reconstruct")}
_BUFFERS = {("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")}
_DTYPE = ("numpy", "dtype")
NUMPY = _ARRAYS | _BUFFERS | {_DTYPE, ("numpy", "ndarray")}


class Remembered:
    """An object in a pickle, never made: what it would have been made of.

    Attributes:
        origin: (module, name) of what the pickle asked for: a class or a function.
        arguments: those it was called with.
        state: what would have become its attributes, as a rule a dict; None if nothing.
        items: the elements, where it is a kind of list.
    """

    origin: tuple[str, str]
    arguments: tuple
    state: Any
    items: list

    def __new__(cls, *arguments: Any) -> "Remembered":
        remembered = super().__new__(cls)
        remembered.arguments = arguments
        remembered.state = None
        remembered.items = []
        return remembered

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
        if origin not in self.classes:  # a class for this pickle alone: it can be changed by the pickle, too
            self.classes[origin] = type(name, (Remembered,), {"origin": origin})
        return self.classes[origin]


def read_pickle(content: bytes, admitted: set[tuple[str, str]] | None = None, most_steps: int = 10_000) -> Any:
    """What a pickle holds: plain values as they are, and a ``Remembered`` for every object.

    Args:
        content: the pickle, to its last byte.
        admitted: (module, name) of all that it may ask for; None: of anything.
        most_steps: that it may have; ours have some hundred.

    Raises:
        Exception: any kind of it, for what is damaged, not admitted, or made to take all memory.
    """
    steps: list[tuple] = list(itertools.islice(pickletools.genops(content), most_steps))
    if steps[-1][2] != len(content) - 1:
        raise pickle.UnpicklingError("it has too many steps, or more after its end")
    places = [int(place) for operation, place, _ in steps if operation.name in ("PUT", "BINPUT", "LONG_BINPUT")]
    if max(places, default=0) >= most_steps:
        raise pickle.UnpicklingError("it asks for a table of great size")
    return _Unpickler(io.BytesIO(content), admitted).load()


def origin_of(value: Any) -> tuple[str, str] | None:
    """(module, name) of what the pickle asked for to make this; None for a plain value."""
    return value.origin if isinstance(value, Remembered) else None


def array_of(remembered: Any) -> np.ndarray:
    """The array of float32 or float64 that NumPy would make of it, but from the bytes that are there alone.

    Raises:
        ValueError: it is no such array, or its shape and its bytes do not fit each other.
    """
    if origin_of(remembered) in _ARRAYS:
        _, shape, dtype, column_major, content = remembered.state
    elif origin_of(remembered) in _BUFFERS:
        content, dtype, shape, order = remembered.arguments
        column_major = order == "F"
    else:
        raise ValueError(f"it holds a {type(remembered).__name__}, expected an array")
    kind = dtype.arguments[0] if origin_of(dtype) == _DTYPE else dtype
    if kind not in ("f4", "f8"):
        raise ValueError(f"it holds an array of {reprlib.repr(kind)}, expected floats")
    if type(shape) is not tuple or not all(type(side) is int and 0 <= side < 2**32 for side in shape):
        raise ValueError(f"it holds an array of shape {reprlib.repr(shape)}")
    # The state of a dtype begins with its version and the order of its bytes; nothing else in it matters to a float.
    byte_order = dtype.state[1] if dtype.state else "="
    array = np.frombuffer(content, np.dtype({"<": "<", ">": ">", "=": "="}[byte_order] + kind))
    if array.size != math.prod(shape):
        raise ValueError(f"it holds an array of shape {shape} with {array.size} numbers in it")
    return array.reshape(shape, order="F" if column_major else "C").astype(array.dtype.newbyteorder("="))
