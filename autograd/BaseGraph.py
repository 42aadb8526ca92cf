"""A straight line of nodes: the graph of a feed-forward network (handout, Part 1)."""

from collections.abc import Sequence


class BaseGraph(Sequence):
    """Nodes in the order in which data runs through them: x -> nodes[0] -> nodes[1] -> ... -> y.

    Behaves as a sequence: ``len(graph)``, ``graph[0]``, ``for node in graph``. A slice is a graph of the same nodes,
    not of copies, so that ``graph[:5]`` and ``graph[5:]`` are the encoder and the decoder of an autoencoder.
    """

    def __init__(self, nodes):
        self.nodes = list(nodes)

    def __len__(self):
        return len(self.nodes)

    def __getitem__(self, index):
        return BaseGraph(self.nodes[index]) if isinstance(index, slice) else self.nodes[index]

    def forward(self, x):
        """x -> y, through every node in turn."""
        for node in self.nodes:
            x = node.forward(x)
        return x

    def backward(self, grad):
        """dL/dy -> dL/dx, through every node in reverse: the chain rule, one factor a node."""
        for node in reversed(self.nodes):
            grad = node.backward(grad)
        return grad

    def backward_params(self, grad):
        """Fills ``grads`` as ``backward`` does, without dL/dx: in training, nobody asks for the gradient of the data.

        The first layer is often the widest, and its dL/dx a tenth of all the work.
        """
        self[0].backward_params(self[1:].backward(grad))

    def optimstep(self, lr):
        """One step of plain stochastic gradient descent: param <- param - lr * dL/dparam.

        Raises:
            RuntimeError: a node has parameters but no gradients yet.
        """
        for node in self.nodes:
            if len(node.grads) != len(node.params):
                raise RuntimeError(f"{type(node).__name__}: optimstep before backward; call backward(grad) first")
            for param, grad in zip(node.params, node.grads, strict=True):
                param -= lr * grad

    def flush(self):
        """Makes every node forget the latest forward and backward; the parameters stay."""
        for node in self.nodes:
            node.flush()
