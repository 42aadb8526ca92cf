"""Models of Part 2 saved by a student's own classes, such as the course's template, read without executing any code.

    pickle.dump(Graph([Linear(1728, 256), relu(), ..., sigmoid()]), file)

Unpickling this would need the student's code. Here it is only inspected (lab/untrusted_pickle.py): objects whose class
is named Linear, ReLU or Sigmoid become nodes of this lab's autograd, with the student's weights.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from autograd import BaseGraph, Linear, ReLU, Sigmoid
from autograd.BaseNode import BaseNode
from lab.untrusted_pickle import Recorded, array_of, read_pickle

NODES: dict[str, type[BaseNode]] = {"linear": Linear, "relu": ReLU, "sigmoid": Sigmoid}
MOST_STEPS = 300_000  # opcodes of a pickle: nodes that were never flushed hold the activations of an epoch
PARAMETERS = [("weight", "bias"), ("W", "b"), ("w", "b")]  # names of attributes, if there is no list named params


def graph_of(content: bytes) -> BaseGraph:
    """The graph in a pickle, whatever the name of its class; its weights keep their dtype, float32 or float64.

    A pickle that is damaged, or holds anything but a chain of known nodes, raises any exception.
    """
    found = list(_nodes_in(read_pickle(content, most_steps=MOST_STEPS), iter(range(MOST_STEPS))))
    if not any(type(node).__name__.lower() == "linear" for node in found):
        raise ValueError("it holds no Linear")
    nodes: list[BaseNode] = []
    width = None
    for node in found:
        kind = NODES[type(node).__name__.lower()]
        params = list(_parameters(node, width)) if kind is Linear else []
        nodes.append(kind.of(*params))
        width = params[0].shape[1] if params else width
    return BaseGraph(nodes)


def sizes_of(graph: BaseGraph) -> list[int]:
    """The sizes of the layers, as in [1728, 256, 128, 64, 128, 256, 1728]."""
    weights = [node.params[0] for node in graph if isinstance(node, Linear)]
    return [len(weights[0]), *(weight.shape[1] for weight in weights)] if weights else []


def _nodes_in(value: Any, visits: Iterator[int], in_line: bool = False) -> Iterator[Recorded]:
    """The nodes in nested lists, dicts and objects, in order; in an object, first its elements, then its attributes.

    A node that occurs twice is yielded twice. The number of visits is limited, since a pickle can contain cycles.

    Args:
        in_line: the value is an element of a list, where anything unknown is an error, and not skipped.
    """
    if next(visits, None) is None:
        raise ValueError("it holds too many things in each other")
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _nodes_in(part, visits, in_line=True)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _nodes_in(part, visits)
    elif isinstance(value, Recorded) and not value.origin[0].startswith("numpy"):
        name = type(value).__name__
        if name.lower() in NODES:
            yield value
            return
        inside = [*_nodes_in(value.items, visits), *_nodes_in(value.state, visits)]
        if in_line and not inside and not any(word in name.lower() for word in ("mse", "loss")):
            raise ValueError(f"it holds a {name}, expected Linear, ReLU and Sigmoid alone")
        yield from inside


def _parameters(node: Recorded, width: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Weight (in_dim, out_dim) and bias (out_dim,) of a Linear; ``width`` is its in_dim, if known."""
    state = node.state
    params = state.get("params") or next(
        [state[name] for name in names] for names in PARAMETERS if state.keys() >= set(names)
    )
    weight, bias = (array_of(param) for param in params)
    bias = bias.reshape(-1)
    if weight.ndim != 2 or not np.isfinite(weight).all() or not np.isfinite(bias).all():
        raise ValueError("the weights of a Linear are not all finite numbers in rows and columns")
    if weight.shape[1] != len(bias) or width not in (None, len(weight)):
        weight = weight.T  # PyTorch's layout
    if weight.shape[1] != len(bias) or width not in (None, len(weight)):
        raise ValueError(f"a Linear has {weight.shape} and {bias.shape}, expected {width or 'any number of'} inputs")
    return weight, bias
