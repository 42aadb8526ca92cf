"""The base class of the nodes of a computation graph (handout, Part 1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class BaseNode:
    """One step of a computation, y = f(x, parameters), and its derivative.

    Attributes:
        params: the arrays that training changes.
        grads: dL/dparam for each of ``params``, in the same order and shapes; empty until ``backward``.

    L is the loss at the end of the graph. ``forward`` saves what the derivative needs; ``backward`` uses what the
    latest ``forward`` saved. That is no copy: do not change x or y in place between the two. ``backward`` replaces
    ``grads`` each time and does not change the saved values, so that calling it twice gives the same gradients twice:
    they do not accumulate, and need not be set to zero between batches.
    """

    def __init__(self, *params: np.ndarray) -> None:
        self.params = list(params)
        self.flush()

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x -> y."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """dL/dy -> dL/dx, and fills ``grads``.

        Raises:
            RuntimeError: ``forward`` has not been called.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward(grad)")

    def flush(self) -> None:
        """Clears what the latest forward and backward saved; the parameters stay."""
        self.saved: np.ndarray | None = None
        self.grads: list[np.ndarray] = []

    def recall(self) -> np.ndarray:
        """The value that ``forward`` saved, for ``backward`` to use."""
        if self.saved is None:
            raise RuntimeError(f"{type(self).__name__}: backward before forward; call forward(x) first")
        return self.saved

    def restore(self, params: Sequence[np.ndarray]) -> None:
        """Sets the parameters to these values: in place, since a node may have its arrays under other names as well."""
        if [(param.shape, param.dtype) for param in self.params] != [(value.shape, value.dtype) for value in params]:
            self.params = [np.empty_like(value) for value in params]
        for param, value in zip(self.params, params, strict=True):
            param[...] = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.params[0].shape)) if self.params else ''})"

    def __getstate__(self) -> dict[str, Any]:
        return {"params": self.params}  # a file or a copy holds the parameters, and not the last batch

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A node from a file is a new one, Linear(*W.shape) or ReLU(), whose parameters are then set.
        params = state["params"]
        self.__init__(*(params[0].shape if params else ()))  # type: ignore[misc]
        self.restore(params)
