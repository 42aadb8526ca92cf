"""Part 1: gradients against central differences and PyTorch's, values by hand, and the order of calls."""

import copy
import pickle
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import ROOT
from gradient_check import assert_close, check_gradients
from hypothesis import assume, given
from hypothesis import strategies as st

from autograd import MSE, BaseGraph, BaseNode, Linear, ReLU, Sigmoid
from checking.gradients import numerical_gradient

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**32 - 1)


def away_from_zero(rng, shape):
    x = rng.standard_normal(shape)
    return x + 0.1 * np.sign(x)


def mlp(rng, *widths, dtype=np.float64):
    nodes = []
    for in_dim, out_dim in pairwise(widths):
        nodes += [Linear(in_dim, out_dim, rng, dtype), ReLU()]
    return BaseGraph([*nodes[:-1], Sigmoid()])


def used(graph, rows=5, seed=0):
    """Sends a batch forward and backward; gives dL/dx, and a list of all gradients of the parameters."""
    rng = np.random.default_rng(seed)
    y = graph.forward(rng.standard_normal((rows, len(graph[0].params[0]))))
    return graph.backward(rng.standard_normal(y.shape)), [grad for node in graph for grad in node.grads]


# Gradients against central differences, and against PyTorch


@pytest.mark.parametrize("new", [Linear, lambda *_: ReLU(), lambda *_: Sigmoid()])
@given(n=sizes, in_dim=sizes, out_dim=sizes, seed=seeds)
def test_gradients_of_a_node(new, n, in_dim, out_dim, seed):
    rng = np.random.default_rng(seed)
    check_gradients(new(in_dim, out_dim, rng, np.float64), away_from_zero(rng, (n, in_dim)), rng)


@given(sizes, sizes, seeds)
def test_gradient_of_mse(n, dim, seed):
    output, target = np.random.default_rng(seed).standard_normal((2, n, dim))
    mse = MSE()
    mse.forward(output, target)
    found = mse.backward()
    assert_close(found, numerical_gradient(lambda: mse.forward(output, target), output), 1e-7, "MSE: dL/doutput")


@given(sizes, sizes, sizes, sizes, seeds)
def test_gradients_of_a_graph(n, in_dim, hidden, out_dim, seed):
    rng = np.random.default_rng(seed)
    graph = mlp(rng, in_dim, hidden, 4, out_dim)
    x = rng.standard_normal((n, in_dim))
    before_relu = [graph[: i + 1].forward(x) for i in (0, 2)]
    assume(all(abs(value).min() > 1e-3 for value in before_relu))  # a difference across ReLU's kink is no derivative
    check_gradients(graph, x, rng)


class ForgetsTheBatch(Linear):
    def backward(self, grad):
        grad_x = super().backward(grad)
        self.grads[1] = grad[0]
        return grad_x


class OnePercentOff(Sigmoid):
    def backward(self, grad):
        return 1.01 * super().backward(grad)


@pytest.mark.parametrize("node", [ForgetsTheBatch(3, 2, np.random.default_rng(0), np.float64), OnePercentOff()])
def test_a_wrong_node_fails_the_check(node):
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="relative error"):
        check_gradients(node, away_from_zero(rng, (4, 3)), rng)


@given(sizes, sizes, sizes, sizes, seeds)
def test_loss_and_gradients_are_those_of_pytorch(n, in_dim, hidden, out_dim, seed):
    rng = np.random.default_rng(seed)
    graph, mse = mlp(rng, in_dim, hidden, out_dim), MSE()
    x, target = rng.standard_normal((n, in_dim)), rng.random((n, out_dim))
    loss = mse.forward(graph.forward(x), target)
    found = [graph.backward(mse.backward()), *(grad for node in graph for grad in node.grads)]

    params = [param for node in graph for param in node.params]
    tensors = [torch.tensor(array, requires_grad=True) for array in (x, *params)]
    inputs, weight1, bias1, weight2, bias2 = tensors
    output = torch.sigmoid(torch.relu(inputs @ weight1 + bias1) @ weight2 + bias2)
    expected = torch.nn.functional.mse_loss(output, torch.tensor(target))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for grad, tensor in zip(found, tensors, strict=True):
        assert_close(grad, tensor.grad.numpy(), 1e-12, "dL/dx or dL/dparam")


# Nodes


def test_nodes_by_hand():
    mse = MSE()
    output, target = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert mse.forward(output, target) == (0 + 4 + 9 + 16) / 4
    assert mse.backward().tolist() == [[0, 1], [1.5, 2]]
    assert mse.backward(3.0).tolist() == [[0, 3], [4.5, 6]]  # dL/dMSE = 3: the chain rule
    relu, sigmoid = ReLU(), Sigmoid()
    assert relu.forward(np.array([[-2.0, 0.0, 3.0]])).tolist() == [[0, 0, 3]]
    assert relu.backward(np.array([[5.0, 6.0, 7.0]])).tolist() == [[0, 0, 7]]  # 0 at 0, as in PyTorch
    assert sigmoid.forward(np.array([[0.0, np.log(3)]])) == pytest.approx(np.array([[0.5, 0.75]]))
    assert sigmoid.backward(np.array([[4.0, 16.0]])) == pytest.approx(np.array([[1, 3]]))
    linear = Linear(2, 1)
    linear.params[0][:], linear.params[1][:] = [[2], [3]], [1]
    assert linear.forward(np.array([[1, 10]], np.float32)).tolist() == [[33]]
    assert linear.backward(np.array([[1]], np.float32)).tolist() == [[2, 3]]
    assert [grad.tolist() for grad in linear.grads] == [[[1], [10]], [1]]


@pytest.mark.parametrize(("in_dim", "out_dim"), [(30, 7), (7, 30), (9, 9)])
def test_linear_starts_orthogonal(in_dim, out_dim):
    weight, bias = Linear(in_dim, out_dim, np.random.default_rng(0), np.float64).params
    square = weight.T @ weight if in_dim > out_dim else weight @ weight.T
    np.testing.assert_allclose(square, 2 * np.eye(min(in_dim, out_dim)), atol=1e-12)
    assert weight.shape == (in_dim, out_dim) and bias.tolist() == [0] * out_dim
    again, other = (Linear(in_dim, out_dim, np.random.default_rng(seed), np.float64).params[0] for seed in (0, 1))
    assert (weight == again).all() and (weight != other).any()
    assert (Linear(in_dim, out_dim).params[0] != Linear(in_dim, out_dim).params[0]).any()


def test_linear_weights_are_uniform_over_the_orthogonal_matrices():
    """Of such a matrix every entry is as often positive as negative, and so are determinant and trace."""
    n, rng = 4, np.random.default_rng(0)
    weights = np.array([Linear(n, n, rng, np.float64).params[0] / np.sqrt(2) for _ in range(2000)])
    signs = np.stack([*np.moveaxis(weights, 0, -1).reshape(n * n, -1), np.linalg.det(weights)])
    assert (abs(np.sign(signs).mean(axis=1)) < 5 / np.sqrt(2000)).all()
    traces = np.trace(weights, axis1=1, axis2=2)  # mean 0 and variance 1 (Diaconis and Shahshahani, 1994)
    assert abs(traces.mean()) < 5 / np.sqrt(2000) and traces.var() == pytest.approx(1, abs=0.2)


@given(st.lists(st.floats(width=32), min_size=1))
def test_sigmoid_takes_any_float32(values):
    x = np.array(values, np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = Sigmoid().forward(x)
    assert ((y >= 0) & (y <= 1) | np.isnan(x)).all()
    expected = torch.sigmoid(torch.tensor(x).double())
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-44)  # small ones, too: not 1 - 0.99...


def test_arrays_keep_their_type():
    assert {param.dtype for param in Linear(4, 3).params} == {np.dtype(np.float32)}
    for dtype in np.float32, np.float64:
        graph, mse = mlp(np.random.default_rng(0), 3, 5, 2, dtype=dtype), MSE()
        y = graph.forward(np.ones((4, 3), dtype))
        mse.forward(y, np.zeros((4, 2), dtype))
        dx = graph.backward(mse.backward())
        graph.optimstep(0.1)
        arrays = [y, dx, *(a for node in graph for a in node.params + node.grads)]
        assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_what_is_at_fault_is_named():
    for shape in (2, 4), (3,), (1, 2, 3):
        with pytest.raises(ValueError, match=rf"\(N, 3\), found {re.escape(str(shape))}"):
            Linear(3, 5).forward(np.ones(shape))
        with pytest.raises(ValueError, match=rf"\(2, 3\) and {re.escape(str(shape))}"):  # NumPy alone would broadcast
            MSE().forward(np.ones((2, 3)), np.ones(shape))
    for call in BaseNode().forward, BaseNode().backward:
        with pytest.raises(NotImplementedError, match=f"BaseNode must define {call.__name__}"):
            call(1)
    graph = BaseGraph([Linear(2, 2)])
    graph.forward(np.ones((1, 2)))
    with pytest.raises(RuntimeError, match="Linear: optimstep before backward"):
        graph.optimstep(0.1)
    relu = ReLU()  # its second forward would replace what the first one saved
    with pytest.raises(ValueError, match="twice"):
        BaseGraph([Linear(2, 2), relu, BaseGraph([Linear(2, 2), relu])])


# Graphs, and the order of calls


def test_a_graph_is_a_sequence_of_its_nodes():
    nodes = [Linear(3, 2), ReLU(), Linear(2, 3), Sigmoid()]
    graph = BaseGraph(nodes)
    assert len(graph) == 4 and list(graph) == nodes and graph[-1] is nodes[-1] and nodes[1] in graph
    encoder, decoder = graph[:2], graph[2:]
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(decoder.forward(encoder.forward(x)), graph.forward(x))
    assert list(BaseGraph([encoder, *decoder])) == nodes
    assert repr(graph) == "BaseGraph([Linear(3, 2), ReLU(), Linear(2, 3), Sigmoid()])"


@pytest.mark.parametrize("node", [Linear(2, 2), ReLU(), Sigmoid(), MSE()])
def test_backward_needs_a_forward_and_flush_forgets_it(node):
    arrays = [np.ones((1, 2), np.float32)] * (2 if isinstance(node, MSE) else 1)
    params = [param.copy() for param in node.params]
    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"{type(node).__name__}: backward before forward"):
            node.backward(np.ones((1, 2)))
        node.forward(*arrays)
        node.backward(np.ones((1, 2)))
        BaseGraph([node]).flush()
        assert node.grads == []
    np.testing.assert_equal(node.params, params)


def test_backward_answers_for_the_latest_forward_each_time_alike():
    """Gradients do not accumulate, and those that a caller has kept stay as they are."""
    graph = mlp(np.random.default_rng(0), 3, 4, 2)
    first = used(graph)
    kept = copy.deepcopy(first)
    used(graph, rows=8)
    again = used(graph)
    graph.optimstep(0.1)
    np.testing.assert_equal([first, again], [kept, kept])
    grad = np.ones((5, 2))
    np.testing.assert_array_equal(graph.backward(grad), graph.backward(grad))


def test_without_input_grad_the_gradients_of_the_parameters_are_the_same():
    graph = mlp(np.random.default_rng(0), 3, 4, 2)
    dx, expected = used(graph)
    graph[0].input_grad = False
    without, found = used(graph)
    assert dx.shape == (5, 3) and without is None
    np.testing.assert_equal(found, expected)
    np.testing.assert_equal(used(copy.deepcopy(graph))[0], dx)  # a copy is without the settings of a training


def test_optimstep_is_plain_gradient_descent_in_place():
    graph = mlp(np.random.default_rng(0), 3, 4, 2, dtype=np.float32)
    params = [param for node in graph for param in node.params]
    _, grads = used(graph)
    expected = [param - 0.5 * grad for param, grad in zip(params, grads, strict=True)]
    graph.optimstep(0.5)
    assert all(param is now for param, now in zip(params, [p for node in graph for p in node.params], strict=True))
    for param, values in zip(params, expected, strict=True):
        np.testing.assert_allclose(param, values, rtol=1e-6)


# Copies and files


class NamesItsParameters(Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.W, self.b = self.params


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda graph: pickle.loads(pickle.dumps(graph))])
def test_a_copy_has_the_same_parameters_of_its_own_and_no_leftovers(duplicate):
    graph = BaseGraph([NamesItsParameters(3, 2), Sigmoid()])
    used(graph)
    twin = duplicate(graph)
    assert twin[0].grads == [] and twin[0].saved is None is twin[1].saved
    assert twin[0].W is twin[0].params[0] and twin[0].b is twin[0].params[1]
    before = [param.copy() for param in graph[0].params]
    graph.optimstep(1.0)
    np.testing.assert_equal(twin[0].params, before)
    assert (graph[0].params[0] != before[0]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_holds_the_parameters_and_not_the_last_batch(dtype):
    graph = mlp(np.random.default_rng(0), 3, 4, 2, dtype=dtype)
    unused = pickle.dumps(graph)
    used(graph, rows=500)
    assert len(pickle.dumps(graph)) == len(unused)
    for node, loaded in zip(graph, pickle.loads(unused), strict=True):
        assert type(loaded) is type(node) and [param.dtype for param in loaded.params] == [dtype] * len(node.params)
        np.testing.assert_equal(loaded.params, node.params)


def test_autograd_needs_numpy_alone():
    code = "import sys, autograd; sys.exit(any(name in sys.modules for name in ('torch', 'PIL', 'tqdm')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
