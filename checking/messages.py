"""What the check and the process of a student's code say to each other: JSON with arrays, and findings."""

import base64
from typing import Any

import numpy as np


class Unclear(Exception):
    """There is no result: what was found instead, in words, and ``mark``, what the check says of it."""

    mark = "?"


class Wrong(Unclear):
    mark = "NO"  # certainly: what was found, what was expected, and what it often comes from


class NotWritten(Unclear):
    mark = "not yet"  # a part that is as it was handed out


def encode(value: Any) -> Any:
    """What JSON has no form for: an array, as its dtype, shape and bytes. TypeError if it is anything else."""
    if isinstance(value, np.ndarray | np.generic):
        return {"array": [value.dtype.str, value.shape, base64.b64encode(np.ascontiguousarray(value).data).decode()]}
    raise TypeError(f"found a {type(value).__name__}, expected numbers")


def decode(value: dict[str, Any]) -> Any:
    """The array that ``encode`` wrote; of any other dict, the dict. ValueError or TypeError if it is no array."""
    if value.keys() != {"array"}:
        return value
    dtype, shape, content = value["array"]
    if dtype not in ("<f2", "<f4", "<f8", "<i4", "<i8", "|u1", "|b1"):
        raise ValueError(f"found an array of {dtype}, expected numbers")
    return np.ndarray(shape, dtype, base64.b64decode(content)).copy()
