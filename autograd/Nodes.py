"""The nodes of the lab: Linear, ReLU, Sigmoid and MSE (handout, Part 1).

Shapes: N is the batch size; a batch is an array with one example per row. L is the loss at the end of the graph, and
``grad`` is always dL/dy, of the shape of y. Arrays keep their dtype: float32 in training, float64 in gradient checks.
"""

from typing import Any

import numpy as np

from .BaseNode import BaseNode


class Linear(BaseNode):
    """y = x W + b

    dL/dW = x^T dL/dy
    dL/db = dL/dy summed over the batch
    dL/dx = dL/dy W^T

    Shapes: x (N, in_dim), W (in_dim, out_dim), b (out_dim,), y (N, out_dim).

    W is initialized as a random orthogonal matrix (Saxe et al. 2014), uniform over all of them, times sqrt(2), the gain
    for ReLU (He et al. 2015, eq. 10), and b as 0.

    Args:
        in_dim, out_dim: sizes of an input and an output row.
        rng: generator of the random weights; a seeded one gives the same weights again.
        dtype: of the parameters.

    Attributes:
        input_grad: set it to False where dL/dx is not needed, as in a first layer, whose x is data: ``backward`` then
            returns None, as PyTorch does for an input without ``requires_grad``.
    """

    input_grad = True

    def __init__(
        self, in_dim: int, out_dim: int, rng: np.random.Generator | None = None, dtype: type = np.float32
    ) -> None:
        rng = rng or np.random.default_rng()
        q, r = np.linalg.qr(rng.standard_normal((max(in_dim, out_dim), min(in_dim, out_dim))))
        q *= np.sign(np.diag(r))  # makes q uniform (Mezzadri, How to generate random matrices ..., 2007)
        weight = np.sqrt(2) * (q if in_dim > out_dim else q.T)
        super().__init__(np.ascontiguousarray(weight, dtype), np.zeros(out_dim, dtype))

    def forward(self, x: np.ndarray) -> np.ndarray:
        weight, bias = self.params
        if x.ndim != 2 or x.shape[1] != len(weight):
            raise ValueError(f"Linear expects x of shape (N, {len(weight)}), found {x.shape}")
        self.saved = x
        return x @ weight + bias

    def backward(self, grad: np.ndarray) -> Any:
        x, (weight, _) = self.recall(), self.params
        self.grads = [x.T @ grad, grad.sum(axis=0)]
        # (weight @ grad.T).T equals grad @ weight.T, and is up to twice as fast for small batches.
        return (weight @ grad.T).T if self.input_grad else None


class ReLU(BaseNode):
    """y = max(x, 0), element by element

    dL/dx = dL/dy where x > 0, and 0 elsewhere
    """

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.saved = x > 0
        return np.maximum(x, 0)

    def backward(self, grad: np.ndarray) -> np.ndarray:
        return grad * self.recall()


class Sigmoid(BaseNode):
    """y = 1 / (1 + e^-x), element by element, between 0 and 1

    dL/dx = dL/dy y (1 - y)
    """

    def forward(self, x: np.ndarray) -> np.ndarray:
        # e^x / (1 + e^x) where x < 0: e^-x overflows in float32 below x = -89.
        self.saved = np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))
        return self.saved

    def backward(self, grad: np.ndarray) -> np.ndarray:
        y = self.recall()
        return grad * y * (1 - y)


class MSE(BaseNode):
    """L = mean over all elements of (output - target)^2

    dL/doutput = 2 (output - target) / number of elements

    The last node: its ``forward`` takes two arrays, and its ``backward`` needs no gradient, since dL/dL = 1.
    """

    def forward(self, output: np.ndarray, target: np.ndarray) -> float:  # type: ignore[override]
        """Two arrays of one shape -> L, a float."""
        if output.shape != target.shape:  # NumPy would broadcast them
            raise ValueError(f"MSE expects output and target of one shape, found {output.shape} and {target.shape}")
        self.saved = output - target
        return float(np.vdot(self.saved, self.saved)) / self.saved.size

    def backward(self, grad: np.ndarray | float = 1.0) -> np.ndarray:
        error = self.recall()
        return (2 * grad / error.size) * error
