"""Backpropagation by hand, in NumPy alone (handout, Part 1).

A network and its training:

    from autograd import BaseGraph, Linear, ReLU, Sigmoid, MSE

    graph = BaseGraph([Linear(3, 8), ReLU(), Linear(8, 2), Sigmoid()])
    mse = MSE()
    for step in range(1000):
        loss = mse.forward(graph.forward(x), target)  # forward: left to right
        graph.backward(mse.backward())                # backward: right to left, the chain rule
        graph.optimstep(lr=0.1)                       # param <- param - lr * dL/dparam
"""

from .BaseGraph import BaseGraph
from .BaseNode import BaseNode
from .Nodes import MSE, Linear, ReLU, Sigmoid

__all__ = ["MSE", "BaseGraph", "BaseNode", "Linear", "ReLU", "Sigmoid"]
