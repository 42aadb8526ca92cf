"""What every node of a computation graph is (handout, Part 1)."""

from typing import Any

import numpy as np


class BaseNode:
    """One step of a computation, y = f(x, parameters), that knows its own derivative.

    Attributes:
        params: the arrays that training changes, in place.
        grads: dL/dparam for each of ``params``, in the same order and shapes; empty until ``backward``.

    L is the loss at the end of the graph. ``forward`` saves what the derivative will need; ``backward`` answers for the
    latest ``forward``. It writes ``grads`` anew each time and leaves the saved values alone, so that calling it twice
    gives the same gradients twice: nothing piles up, and nothing has to be set to zero between batches.
    """

    def __init__(self, *params: np.ndarray) -> None:
        self.params = list(params)
        self.flush()

    @classmethod
    def of(cls, *params: np.ndarray) -> "BaseNode":
        """A node around parameters that are there already, without drawing new ones."""
        node = cls.__new__(cls)
        BaseNode.__init__(node, *params)
        return node

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x -> y."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """dL/dy -> dL/dx, and fills ``grads``.

        Raises:
            RuntimeError: there is no ``forward`` to go back through.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward(grad)")

    def backward_params(self, grad: np.ndarray) -> None:
        """Fills ``grads`` as ``backward`` does, without dL/dx.

        A node that saves work that way puts its gradients here, and calls this from its ``backward``.
        """
        self.backward(grad)

    def flush(self) -> None:
        """Forgets the latest forward and backward; the parameters stay."""
        self.saved: np.ndarray | None = None
        self.grads: list[np.ndarray] = []

    def recall(self) -> np.ndarray:
        """What ``forward`` saved, for ``backward`` to use."""
        if self.saved is None:
            raise RuntimeError(f"{type(self).__name__}: backward before forward; call forward(x) first")
        return self.saved

    def __getstate__(self) -> dict[str, Any]:
        # A copied or pickled node is its parameters, without what the last batch left behind.
        return self.__dict__ | {"saved": None, "grads": []}
