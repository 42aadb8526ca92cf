"""Models of students, looked at without executing any code.

Part 2: a pickle by a student's own classes, such as the course's

    pickle.dump(Graph([Linear(1728, 256), relu(), ..., sigmoid()]), file)

Unpickling this would need the student's code. Here it is only inspected (lab/untrusted_pickle.py): objects whose class
is named Linear, ReLU or Sigmoid become nodes of this lab's autograd, with the student's weights. Where the order of the
nodes, or what they do, is in the code alone, no graph is made of them: a wrong loss is worse than none.
"""

import argparse
import collections
import datetime
import itertools
import pathlib
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import torch

from autograd import BaseGraph, Linear, ReLU, Sigmoid
from autograd.BaseNode import BaseNode
from lab.checkpoint import PARTS_OF_A_CHECKPOINT, values_in
from lab.untrusted_pickle import MOST_NODES, Recorded, array_of, read_pickle

NODES: dict[str, type[BaseNode]] = {"relu": ReLU, "sigmoid": Sigmoid}
NODES |= dict.fromkeys(["linear", "dense", "affine", "fc", "fullyconnected"], Linear)
MOST_STEPS = 300_000  # opcodes of a pickle: nodes that were never flushed hold the activations of an epoch
WEIGHTS, BIASES = ("weight", "W", "w", "weights"), ("bias", "b", "B", "biases")  # names of attributes
# An attribute of such a name, if it is neither None nor False, means that a node does more than its class tells.
MORE_THAN_ITS_CLASS = re.compile("activ|dropout|norm|slope|alpha|leak|scale|temperature")
MOST_NAMES = 20  # attributes of an object that hold nodes

Parameters = tuple[np.ndarray, np.ndarray | None]


class NotCertain(Exception):
    """An honest model whose meaning is not certain: says what was found."""


# Part 2


def graph_of(content: bytes) -> BaseGraph:
    """The graph in a pickle, whatever the name of its class; its weights keep their dtype, float32 or float64.

    Raises:
        NotCertain: it holds a model, or may do so, but what it computes is not certain.
        Exception: of any type, if it is damaged or holds no model.
    """
    for start, what in (b"PK\x03\x04", "a zip archive, as by torch.save"), (b"\x93NUMPY", "an array by numpy.save"):
        if content.startswith(start):
            raise NotCertain(f"{what}; expected a pickle of the graph")
    value = read_pickle(content, most_steps=MOST_STEPS)
    visits = iter(range(MOST_STEPS))
    found = _nodes_in(value, visits)
    if not any(_kind(node) is Linear for node in found):
        if arrays := _count_arrays(value, visits):
            raise NotCertain(f"{arrays} arrays without the layers that they are of")
        raise ValueError("it holds no Linear")
    if len(found) > MOST_NODES:
        raise ValueError(f"it holds more than {MOST_NODES} nodes")
    kinds = [kind for node in found if (kind := _kind(node))]
    if ReLU not in kinds or kinds[-1] is Linear:
        raise NotCertain(f"{' '.join(kind.__name__ for kind in kinds)}: other activations may be in the code alone")
    parameters = []
    size = 0
    for node, kind in zip(found, kinds, strict=True):
        _expect_no_more(node)
        if kind is Linear:
            parameters.append(_parameters(node))
            size += sum(array.nbytes for array in parameters[-1] if array is not None)
            if size > len(content):  # it refers to one array many times
                raise ValueError("its arrays are larger than the file")
    linears = iter(_in_order(parameters))
    return BaseGraph([kind.of(*(next(linears) if kind is Linear else ())) for kind in kinds])


def sizes_of(graph: BaseGraph) -> list[int]:
    """The sizes of the layers, as in [1728, 256, 128, 64, 128, 256, 1728]."""
    weights = [node.params[0] for node in graph if isinstance(node, Linear)]
    return [len(weights[0]), *(weight.shape[1] for weight in weights)] if weights else []


def _kind(node: Recorded) -> type[BaseNode] | None:
    """The node of this lab that a class stands for, by its name, as in LinearLayer; None if it is none of them."""
    name = re.sub("layer|node|activation|_", "", type(node).__name__.lower())
    return NODES.get(name) or NODES.get(name.removeprefix("my"))


def _nodes_in(value: Any, visits: Iterator[int]) -> list[Recorded]:
    """The nodes in nested lists, dicts and objects, in the order in which they are applied; NotCertain if unknown.

    A node that occurs twice in a list is there twice. The number of visits is limited: a pickle can contain cycles.
    """
    if next(visits, None) is None:
        raise ValueError("it holds too many things in each other")
    if isinstance(value, (list, tuple)):
        return _nodes_in_line(value, visits)
    if isinstance(value, dict):
        return _nodes_by_name(value, visits)
    if not isinstance(value, Recorded) or value.origin[0].startswith("numpy"):
        return []
    if _kind(value):
        return [value]
    # A kind of list is a graph by its elements; its attributes may name some of them again.
    if value.entries and all(isinstance(part, Recorded) and _kind(part) for part in value.entries.values()):
        return list(value.entries.values())  # an OrderedDict of layers
    line = {"its elements": value.items} if value.items else {}
    return _nodes_by_name(line | value.entries | _attributes(value), visits)


def _nodes_in_line(values: list | tuple, visits: Iterator[int]) -> list[Recorded]:
    found = []
    for part in values:
        inside = _nodes_in(part, visits)
        name = type(part).__name__
        unknown = isinstance(part, Recorded) and not inside and not part.origin[0].startswith("numpy")
        if unknown and not re.search("mse|loss", name.lower()):
            raise NotCertain(f"it holds a {name}, expected Linear, ReLU and Sigmoid alone")
        found += inside
    return found


def _nodes_by_name(values: dict, visits: Iterator[int]) -> list[Recorded]:
    """The nodes in the values of a dict, or in the attributes of an object.

    There may be one list of nodes, the same one under several names, or an encoder and a decoder. Of several nodes that
    are attributes themselves, the order is in the code alone.
    """
    found: dict[str, list[Recorded]] = {}
    for name, value in values.items():
        nodes = _nodes_in(value, visits)
        others = [other for other in found if {id(node) for node in nodes} <= {id(node) for node in found[other]}]
        if nodes and not others:
            same = {id(node) for node in nodes}
            found = {other: line for other, line in found.items() if not {id(node) for node in line} <= same}
            found[str(name)[:50]] = nodes
        if len(found) > MOST_NAMES:
            break
    if len(found) > 1:
        ways = [[name for name in found if start in name.lower()] for start in ("enc", "dec")]
        if len(found) == 2 and len(ways[0]) == len(ways[1]) == 1 and ways[0] != ways[1]:
            return found[ways[0][0]] + found[ways[1][0]]
        names = ", ".join(itertools.islice(found, 8))
        raise NotCertain(f"nodes in several attributes ({names}), whose order is in the code alone")
    return next(iter(found.values()), [])


def _attributes(value: Recorded) -> dict:
    """The attributes of an object, of ``__slots__`` as well."""
    states = value.state if isinstance(value.state, tuple) else (value.state,)
    return {name: part for state in states if isinstance(state, dict) for name, part in state.items()}


def _expect_no_more(node: Recorded) -> None:
    for name, value in _attributes(node).items():
        if MORE_THAN_ITS_CLASS.search(str(name).lower()) and value not in (None, False):
            raise NotCertain(f"a {type(node).__name__} with {name}, whose meaning is in the code alone")


def _count_arrays(value: Any, visits: Iterator[int]) -> int:
    """The number of NumPy's objects in nested lists, dicts and objects."""
    if next(visits, None) is None:
        raise ValueError("it holds too many things in each other")
    parts: Iterable = ()
    if isinstance(value, (list, tuple)):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, Recorded):
        if value.origin[0].startswith("numpy"):
            return 1
        parts = [*value.items, *value.entries.values(), *_attributes(value).values()]
    return sum(_count_arrays(part, visits) for part in parts)


def _parameters(node: Recorded) -> Parameters:
    """Weight and bias of a Linear as they are in the file; the bias is None if it has none."""
    attributes = _attributes(node)
    params = attributes.get("params") or attributes
    if isinstance(params, Recorded):
        params = params.entries or params.items
    if isinstance(params, dict):
        weights, biases = ([params[name] for name in names if name in params] for names in (WEIGHTS, BIASES))
        params = [*weights[:1], *biases[:1]] if weights else []
    if not 1 <= len(params) <= 2:
        raise NotCertain(f"a {type(node).__name__} with {len(params)} parameters, expected a weight and a bias")
    weight, *bias = (_array(param) for param in params if param is not None)
    if weight.ndim != 2 or not weight.size or not all(np.isfinite(param).all() for param in (weight, *bias)):
        raise ValueError("the weights of a Linear are not all finite numbers in rows and columns")
    if bias:
        return weight, bias[0].reshape(-1)
    for name, value in itertools.islice(attributes.items(), MOST_NAMES):
        if _may_be_a_bias(value, weight):
            raise NotCertain(f"a {type(node).__name__} without a bias, unless it is {name}")
    return weight, None


def _may_be_a_bias(value: Any, weight: np.ndarray) -> bool:
    try:
        return _array(value).size in weight.shape
    except Exception:  # it is no array of floats
        return False


def _array(param: Any) -> np.ndarray:
    """The array of a parameter, which may be an object around it."""
    if isinstance(param, Recorded) and not param.origin[0].startswith("numpy"):
        inside = [value for name, value in _attributes(param).items() if name in ("data", "value")]
        if len(inside) == 1:
            return array_of(inside[0])
    return array_of(param)


def _in_order(parameters: list[Parameters]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (in_dim, out_dim) and biases (out_dim,) that fit in turn, either all as they are or all transposed."""
    fitting = []
    for transposed in False, True:
        weights = [weight.T if transposed else weight for weight, _ in parameters]
        biases = [
            np.zeros(weight.shape[1], weight.dtype) if bias is None else bias
            for weight, (_, bias) in zip(weights, parameters, strict=True)
        ]
        sizes = [weight.shape[1] for weight in weights]
        fits = sizes == [len(bias) for bias in biases] and sizes[:-1] == [len(weight) for weight in weights[1:]]
        if fits:
            fitting.append(list(zip(weights, biases, strict=True)))
    if not fitting:
        shapes = " ".join(str(weight.shape) for weight, _ in parameters[:8])
        raise ValueError(f"the outputs of its Linears are not the inputs of the next: {shapes}")
    if len(fitting) == 2:
        raise NotCertain("square weights, of which rows or columns may be the inputs")
    widths = [len(weight) for weight, _ in fitting[0]]
    if widths[0] in widths[1:]:
        raise NotCertain("more than one autoencoder in a row")
    return fitting[0]


# Parts 3 and 4


# By which a file of PyTorch before 1.6 begins.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Of tensors and dicts. Modules of Python's own library that an honest checkpoint may name: for other plain values.
PLAIN = re.compile(r"torch\._utils _rebuild|torch\._tensor |torch \w+Storage$|collections ")
HARMLESS = {module.__name__ for module in (argparse, collections, datetime, pathlib)} | {"_codecs", "copyreg"}


def look_at_pytorch(content: bytes) -> str:
    """What a file of PyTorch holds that is none of this lab's checkpoints; an exception of any type if it is damaged.

    Layers of a student's own are never rebuilt, since their order is in the code alone.
    """
    if content.startswith(LEGACY):
        return "a file of PyTorch before 1.6, which is not opened: save it again with a newer version"
    if content.startswith(b"\x80"):
        return "a plain pickle, which is not opened: expected a file by torch.save"
    try:
        values = values_in(content)
    except Exception as error:
        if names := _asked_for(content):
            modules = {name.split(".")[0].split()[0] for name in names}
            if not modules & (sys.stdlib_module_names - HARMLESS):
                return f"a whole model with its classes ({names[0].replace(' ', '.')}): to open it would execute code"
        raise error from None
    if isinstance(values, dict) and values.keys() >= PARTS_OF_A_CHECKPOINT:
        raise ValueError("a checkpoint of this lab")
    return f"{_state_dict_in(values)}, with layers of the student's own"


def _asked_for(content: bytes) -> list[str]:
    """The classes and functions that the pickle in an archive asks for, except those of plain tensors; at most ten."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        parts = [part for part in archive.infolist() if part.filename.endswith("/data.pkl")]
        if len(parts) != 1 or parts[0].compress_type != zipfile.ZIP_STORED:
            return []
        pickled = archive.read(parts[0])
    found = (str(argument) for operation, argument, _ in pickletools.genops(pickled) if operation.name == "GLOBAL")
    return list(itertools.islice((name for name in found if not PLAIN.match(name)), 10))


def _state_dict_in(values: Any) -> str:
    if not isinstance(values, dict):
        return f"a {type(values).__name__}"
    tensors = [value for value in values.values() if isinstance(value, torch.Tensor)]
    if values and len(tensors) == len(values):
        return f"a state_dict of {len(tensors)} tensors"
    for name, value in values.items():
        if isinstance(value, dict) and value and all(isinstance(part, torch.Tensor) for part in value.values()):
            return f"a dict with a state_dict of {len(value)} tensors ({name})"
    return f"a dict of {len(values)} parts"
