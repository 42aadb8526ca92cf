"""Gradients by central differences, shown beside those of ``backward`` where they differ."""

import numpy as np

from checking.gradients import numerical_gradient


def assert_close(found, expected, tolerance, what):
    """Fails where two arrays differ in shape, or by more than ``tolerance`` of their size (of 0.001 if smaller)."""
    assert found.shape == expected.shape, f"{what}: found shape {found.shape}, expected {expected.shape}"
    size = max(np.linalg.norm(found), np.linalg.norm(expected), 1e-3)
    error = np.linalg.norm(found - expected) / size
    assert error < tolerance, f"{what}: relative error {error:.1e}\nfound\n{found}\nexpected\n{expected}"


def check_gradients(node, x, rng, tolerance=1e-7):
    """Checks a node or graph at x, in float64: dL/dx and dL/dparam for L = sum(weights * y) with random weights."""
    weights = rng.standard_normal(node.forward(x).shape)
    nodes = getattr(node, "nodes", [node])
    found = [node.backward(weights), *(grad for each in nodes for grad in each.grads)]
    arrays = [x, *(param for each in nodes for param in each.params)]
    for number, (grad, array) in enumerate(zip(found, arrays, strict=True)):
        expected = numerical_gradient(lambda: float(np.sum(weights * node.forward(x))), array)
        assert_close(grad, expected, tolerance, f"{node}: dL/d of x and the parameters, number {number}")
