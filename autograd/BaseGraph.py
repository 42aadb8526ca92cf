"""A linear chain of nodes: the graph of a feed-forward network (handout, Part 1)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .BaseNode import BaseNode


class BaseGraph(Sequence[BaseNode]):
    """Nodes in the order of the forward pass: x -> nodes[0] -> nodes[1] -> ... -> y.

    Behaves as a sequence: ``len(graph)``, ``graph[0]``, ``for node in graph``. A slice is a graph of the same nodes,
    not of copies, so that ``graph[:5]`` and ``graph[5:]`` are the encoder and the decoder of an autoencoder.

    A graph among the nodes stands for its own nodes.

    Raises:
        ValueError: a node stands at two places; the second forward would replace what the first one saved.
    """

    def __init__(self, nodes: "Iterable[BaseNode | BaseGraph]") -> None:
        self.nodes: list[BaseNode] = []
        for node in nodes:
            self.nodes += node if isinstance(node, BaseGraph) else [node]
        if len({id(node) for node in self.nodes}) < len(self.nodes):
            raise ValueError(f"found a node twice in {self.nodes}, expected a new one for each place")

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, index: int | slice) -> Any:
        return BaseGraph(self.nodes[index]) if isinstance(index, slice) else self.nodes[index]

    def __repr__(self) -> str:
        return f"BaseGraph({self.nodes})"

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x -> y, through every node in turn."""
        for node in self.nodes:
            x = node.forward(x)
        return x

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """dL/dy -> dL/dx, through every node in reverse: the chain rule, one factor per node."""
        for node in reversed(self.nodes):
            grad = node.backward(grad)
        return grad

    def optimstep(self, lr: float) -> None:
        """One step of plain stochastic gradient descent: param <- param - lr * dL/dparam.

        Raises:
            RuntimeError: a node has parameters but no gradients yet.
        """
        for node in self.nodes:
            if len(node.grads) != len(node.params):
                raise RuntimeError(f"{type(node).__name__}: optimstep before backward; call backward(grad) first")
            for param, grad in zip(node.params, node.grads, strict=True):
                param -= lr * grad

    def flush(self) -> None:
        """Flushes every node; the parameters stay."""
        for node in self.nodes:
            node.flush()
