import copy
import pickle
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import ROOT
from gradient_check import assert_close, check_gradients, numerical_gradient
from hypothesis import assume, given
from hypothesis import strategies as st

from autograd import MSE, BaseGraph, BaseNode, Linear, ReLU, Sigmoid

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


# Gradients against central differences


@given(sizes, sizes, sizes, seeds)
def test_linear_gradients(n, in_dim, out_dim, seed):
    rng = np.random.default_rng(seed)
    check_gradients(Linear(in_dim, out_dim, rng, np.float64), rng.standard_normal((n, in_dim)), rng)


@pytest.mark.parametrize("node", [ReLU, Sigmoid])
@given(n=sizes, dim=sizes, seed=seeds)
def test_activation_gradients(node, n, dim, seed):
    rng = np.random.default_rng(seed)
    check_gradients(node(), away_from_zero(rng, (n, dim)), rng)


@given(sizes, sizes, seeds)
def test_mse_gradient(n, dim, seed):
    rng = np.random.default_rng(seed)
    output, target = rng.standard_normal((2, n, dim))
    mse = MSE()
    mse.forward(output, target)
    found = mse.backward()
    assert_close(found, numerical_gradient(lambda: mse.forward(output, target), output), 1e-7, "MSE: dL/doutput")


@given(sizes, sizes, sizes, sizes, seeds)
def test_graph_gradients(n, in_dim, hidden, out_dim, seed):
    rng = np.random.default_rng(seed)
    graph = mlp(rng, in_dim, hidden, 4, out_dim)
    x = rng.standard_normal((n, in_dim))
    graph.forward(x)
    relus_at = [graph[: i + 1].forward(x) for i in (0, 2)]
    assume(all(abs(value).min() > 1e-3 for value in relus_at))  # a difference across ReLU's kink is no derivative
    check_gradients(graph, x, rng)


class ForgetsTheBatch(Linear):
    def backward(self, grad):
        grad_x = super().backward(grad)
        self.grads[1] = grad[0]
        return grad_x


class LetsAllThrough(ReLU):
    def backward(self, grad):
        return grad


class OnePercentOff(Sigmoid):
    def backward(self, grad):
        return 1.01 * super().backward(grad)


@pytest.mark.parametrize(
    "node", [ForgetsTheBatch(3, 2, np.random.default_rng(0), np.float64), LetsAllThrough(), OnePercentOff()]
)
def test_a_wrong_node_fails_the_check(node):
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="relative error"):
        check_gradients(node, away_from_zero(rng, (4, 3)), rng)


# Gradients against PyTorch


@given(sizes, sizes, sizes, sizes, seeds)
def test_same_loss_and_gradients_as_pytorch(n, in_dim, hidden, out_dim, seed):
    rng = np.random.default_rng(seed)
    graph, mse = mlp(rng, in_dim, hidden, out_dim), MSE()
    x, target = rng.standard_normal((n, in_dim)), rng.random((n, out_dim))
    loss = mse.forward(graph.forward(x), target)
    dx = graph.backward(mse.backward())

    tensors = [torch.tensor(param, requires_grad=True) for node in graph for param in node.params]
    weight1, bias1, weight2, bias2 = tensors
    x_tensor = torch.tensor(x, requires_grad=True)
    output = torch.sigmoid(torch.relu(x_tensor @ weight1 + bias1) @ weight2 + bias2)
    expected = torch.nn.functional.mse_loss(output, torch.tensor(target))
    expected.backward()

    assert loss == pytest.approx(expected.item(), rel=1e-12)
    assert_close(dx, x_tensor.grad.numpy(), 1e-12, "dL/dx")
    found = [grad for node in graph for grad in node.grads]
    for grad, tensor in zip(found, tensors, strict=True):
        assert_close(grad, tensor.grad.numpy(), 1e-12, "dL/dparam")


# Nodes


def test_mse_by_hand():
    mse = MSE()
    output, target = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert mse.forward(output, target) == (0 + 4 + 9 + 16) / 4
    assert mse.backward().tolist() == [[0, 1], [1.5, 2]]
    assert mse.backward(3.0).tolist() == [[0, 3], [4.5, 6]]  # dL/dMSE = 3: the chain rule
    assert mse.backward(np.array([[1.0], [10.0]])).tolist() == [[0, 1], [15, 20]]


def test_activations_by_hand():
    x = np.array([[-2.0, 0.0, 3.0]])
    relu, sigmoid = ReLU(), Sigmoid()
    assert relu.forward(x).tolist() == [[0, 0, 3]]
    assert relu.backward(np.array([[5.0, 6.0, 7.0]])).tolist() == [[0, 0, 7]]  # 0 at 0, as in PyTorch
    assert sigmoid.forward(np.array([[0.0, np.log(3)]])) == pytest.approx(np.array([[0.5, 0.75]]))
    assert sigmoid.backward(np.array([[4.0, 16.0]])) == pytest.approx(np.array([[1, 3]]))


def test_linear_by_hand():
    linear = Linear(2, 1)
    linear.params[0][:] = [[2], [3]]
    linear.params[1][:] = [1]
    assert linear.forward(np.array([[1, 10]], np.float32)).tolist() == [[33]]
    assert linear.backward(np.array([[1]], np.float32)).tolist() == [[2, 3]]
    assert [grad.tolist() for grad in linear.grads] == [[[1], [10]], [1]]


@pytest.mark.parametrize(("in_dim", "out_dim"), [(30, 7), (7, 30), (9, 9)])
def test_linear_starts_orthogonal(in_dim, out_dim):
    weight, bias = Linear(in_dim, out_dim, np.random.default_rng(0), np.float64).params
    square = weight.T @ weight if in_dim > out_dim else weight @ weight.T
    np.testing.assert_allclose(square, 2 * np.eye(min(in_dim, out_dim)), atol=1e-12)
    assert weight.shape == (in_dim, out_dim) and weight.flags.c_contiguous
    assert bias.tolist() == [0] * out_dim


def test_linear_weights_are_uniform_over_the_orthogonal_matrices():
    """Of such a matrix every entry is as often positive as negative, and so are determinant and trace."""
    n = 4
    rng = np.random.default_rng(0)
    weights = np.array([Linear(n, n, rng, np.float64).params[0] / np.sqrt(2) for _ in range(2000)])
    signs = np.stack([*np.moveaxis(weights, 0, -1).reshape(n * n, -1), np.linalg.det(weights)])
    assert (abs(np.sign(signs).mean(axis=1)) < 5 / np.sqrt(2000)).all()
    traces = np.trace(weights, axis1=1, axis2=2)  # mean 0 and variance 1 (Diaconis and Shahshahani, 1994)
    assert abs(traces.mean()) < 5 / np.sqrt(2000) and traces.var() == pytest.approx(1, abs=0.2)


def test_linear_weights_come_from_the_generator_they_are_given():
    first, again, other = (Linear(4, 3, np.random.default_rng(seed)).params[0] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    assert (Linear(4, 3).params[0] != Linear(4, 3).params[0]).any()
    assert [param.dtype for param in Linear(4, 3).params] == [np.float32, np.float32]


@given(st.lists(st.floats(width=32), min_size=1))
def test_sigmoid_takes_any_float32(values):
    x = np.array(values, np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = Sigmoid().forward(x)
    assert y.dtype == np.float32
    assert ((y >= 0) & (y <= 1) | np.isnan(x)).all()
    expected = torch.sigmoid(torch.tensor(x).double())
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-44)  # small ones, too: not 1 - 0.99...


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.float16])
def test_whole_numbers_and_float16_do_not_overflow(dtype):
    x = np.array([100, 0, 100] * 1000, dtype)
    mse = MSE()
    assert mse.forward(x, x) == 0 and mse.forward(0 * x, x) == mse.forward(x, 0 * x) == 20000 / 3
    assert mse.backward()[0] == pytest.approx(200 / 3000)
    assert mse.forward(np.ones(100_000, dtype), np.zeros(100_000, dtype)) == 1
    low = 0 if dtype is np.uint8 else -9
    y = Sigmoid().forward(np.array([low, 9], dtype)).astype(float)
    assert y == pytest.approx(1 / (1 + np.exp([-low, -9])), rel=1e-2)


def test_arrays_keep_their_type():
    for dtype in np.float32, np.float64:
        graph, mse = mlp(np.random.default_rng(0), 3, 5, 2, dtype=dtype), MSE()
        y = graph.forward(np.ones((4, 3), dtype))
        mse.forward(y, np.zeros((4, 2), dtype))
        dx = graph.backward(mse.backward())
        graph.optimstep(0.1)
        arrays = [y, dx, *(a for node in graph for a in node.params + node.grads)]
        assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"shape \(N, 3\), found \(2, 4\)"):
        Linear(3, 5).forward(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"found \(2, 3\) and \(3,\)"):  # NumPy alone would broadcast
        MSE().forward(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match=r"not empty, found \(0, 3\) and \(0, 3\)"):
        MSE().forward(np.ones((0, 3)), np.ones((0, 3)))


def test_a_node_at_two_places_is_refused():
    """Its second forward replaces what the first one saved, and the gradients are wrong."""
    relu = ReLU()
    with pytest.raises(ValueError, match=r"found a node twice in \[Linear\(2, 2\), ReLU"):
        BaseGraph([Linear(2, 2), relu, Linear(2, 2), relu])


def test_a_node_must_define_forward_and_backward():
    with pytest.raises(NotImplementedError, match="BaseNode must define forward"):
        BaseNode().forward(1)
    with pytest.raises(NotImplementedError, match="BaseNode must define backward"):
        BaseNode().backward(1)


# Order of calls


@pytest.mark.parametrize("node", [Linear(2, 2), ReLU(), Sigmoid(), MSE()])
def test_backward_before_forward_says_so(node):
    with pytest.raises(RuntimeError, match=f"{type(node).__name__}: backward before forward"):
        node.backward(np.ones((1, 2)))


def test_optimstep_before_backward_says_so():
    graph = BaseGraph([Linear(2, 2)])
    graph.forward(np.ones((1, 2)))
    with pytest.raises(RuntimeError, match="Linear: optimstep before backward"):
        graph.optimstep(0.1)


def test_a_second_backward_gives_the_same_gradients_again():
    rng = np.random.default_rng(0)
    graph = mlp(rng, 3, 4, 2)
    graph.forward(rng.standard_normal((5, 3)))
    grad = rng.standard_normal((5, 2))
    first = [graph.backward(grad), *(g for node in graph for g in node.grads)]
    second = [graph.backward(grad), *(g for node in graph for g in node.grads)]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_input_grad_the_gradients_of_the_parameters_are_the_same():
    rng = np.random.default_rng(0)
    graph = mlp(rng, 3, 4, 2)
    graph.forward(rng.standard_normal((5, 3)))
    grad = rng.standard_normal((5, 2))
    assert graph.backward(grad).shape == (5, 3)
    expected = [g for node in graph for g in node.grads]
    graph[0].input_grad = False
    for node in graph:
        node.grads = []
    assert graph.backward(grad) is None
    np.testing.assert_equal([g for node in graph for g in node.grads], expected)
    again = copy.deepcopy(graph)
    again.forward(rng.standard_normal((5, 3)))
    assert again.backward(grad).shape == (5, 3)  # a copy is a model, without the settings of a training


def test_repr():
    rng = np.random.default_rng(0)
    assert repr(Linear(1728, 256, rng)) == "Linear(1728, 256)" and repr(MSE()) == "MSE()"
    graph = BaseGraph([Linear(3, 2, rng), ReLU(), Linear(2, 1, rng), Sigmoid()])
    assert repr(graph) == "BaseGraph([Linear(3, 2), ReLU(), Linear(2, 1), Sigmoid()])"
    assert repr(graph[:2]) == "BaseGraph([Linear(3, 2), ReLU()])"


def test_backward_answers_for_the_latest_forward():
    rng = np.random.default_rng(0)
    graph = mlp(rng, 3, 4, 2)
    x, grad = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    graph.forward(x)
    expected = graph.backward(grad)
    graph.forward(rng.standard_normal((8, 3)))
    graph.backward(np.ones((8, 2)))
    graph.forward(x)
    np.testing.assert_array_equal(graph.backward(grad), expected)


def test_flush_forgets_all_but_the_parameters():
    graph = mlp(np.random.default_rng(0), 3, 2)
    before = graph[0].params[0].copy()
    graph.forward(np.ones((1, 3)))
    graph.backward(np.ones((1, 2)))
    graph.flush()
    assert all(node.grads == [] for node in graph)
    np.testing.assert_array_equal(graph[0].params[0], before)
    with pytest.raises(RuntimeError, match="backward before forward"):
        graph.backward(np.ones((1, 2)))


# Graphs


def test_a_graph_is_a_sequence_of_its_nodes():
    nodes = [Linear(3, 2), ReLU(), Linear(2, 3), Sigmoid()]
    graph = BaseGraph(nodes)
    assert len(graph) == 4 and list(graph) == nodes and graph[-1] is nodes[-1] and nodes[1] in graph
    x = np.ones((1, 3), np.float32)
    encoder, decoder = graph[:2], graph[2:]
    np.testing.assert_array_equal(decoder.forward(encoder.forward(x)), graph.forward(x))
    assert list(BaseGraph([encoder, *decoder])) == nodes
    with pytest.raises(ValueError, match="found a node twice"):
        BaseGraph([encoder, nodes[0]])


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (40, 50)])
@pytest.mark.parametrize("layout", ["rows", "columns", "every second"])
def test_optimstep_changes_every_number_of_a_parameter_once(shape, layout):
    """The same bits as param - lr * grad, and the gradients stay as they were."""
    rng = np.random.default_rng(0)
    param, grad = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    if layout == "columns":
        param = np.asfortranarray(param)
    elif layout == "every second" and shape:
        param = np.repeat(param, 2, axis=0)[::2]
    expected, kept = param - 0.3 * grad, grad.copy()
    node = BaseNode(param)
    node.grads = [grad]
    BaseGraph([node]).optimstep(0.3)
    np.testing.assert_array_equal(param, expected)
    np.testing.assert_array_equal(grad, kept)
    assert node.params[0] is param and node.grads[0] is grad


def test_a_caller_who_keeps_gradients_keeps_their_values():
    rng = np.random.default_rng(0)
    graph = mlp(rng, 3, 4, 2)
    kept = []
    for _ in range(2):
        graph.forward(rng.standard_normal((5, 3)))
        graph.backward(rng.standard_normal((5, 2)))
        kept.append([(grad, grad.copy()) for node in graph for grad in node.grads])
        graph.optimstep(0.1)
    for grad, copied in kept[0] + kept[1]:
        np.testing.assert_array_equal(grad, copied)


def test_optimstep_is_plain_gradient_descent():
    graph = BaseGraph([Linear(2, 2)])
    weight, bias = graph[0].params
    expected = weight - 0.5 * np.ones((2, 2)), bias - 0.5 * np.ones(2)
    graph.forward(np.ones((1, 2), np.float32))
    graph.backward(np.ones((1, 2), np.float32))
    graph.optimstep(0.5)
    assert graph[0].params[0] is weight  # in place
    np.testing.assert_allclose(weight, expected[0])
    np.testing.assert_allclose(bias, expected[1])


def test_training_learns_xor():
    rng = np.random.default_rng(0)
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    target = np.array([[0], [1], [1], [0]], np.float32)
    graph, mse = mlp(rng, 2, 16, 1, dtype=np.float32), MSE()
    for _ in range(2000):
        mse.forward(graph.forward(x), target)
        graph.backward(mse.backward())
        graph.optimstep(1.0)
    np.testing.assert_allclose(graph.forward(x), target, atol=0.1)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda graph: pickle.loads(pickle.dumps(graph))])
def test_a_copy_has_parameters_of_its_own_and_no_leftovers(duplicate):
    graph = mlp(np.random.default_rng(0), 3, 2)
    graph.forward(np.ones((1, 3)))
    graph.backward(np.ones((1, 2)))
    twin = duplicate(graph)
    assert twin[0].saved is None and twin[0].grads == []
    before = twin[0].params[0].copy()
    graph.optimstep(1.0)
    np.testing.assert_array_equal(twin[0].params[0], before)
    assert (graph[0].params[0] != before).any()


def test_autograd_needs_numpy_alone():
    code = "import sys, autograd; sys.exit(any(name in sys.modules for name in ('torch', 'PIL', 'tqdm')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_lists_of_numbers_are_taken_for_arrays():
    graph = mlp(np.random.default_rng(0), 3, 4, 2)
    x = [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(graph.forward(x), graph.forward(np.array(x)))
    np.testing.assert_array_equal(graph[0].forward(x), graph[0].forward(np.array(x)))
    with pytest.raises(ValueError, match=r"Linear expects x of shape \(N, 3\), found \(3,\)"):
        graph.forward([1, 2, 3])


def test_parameters_of_whole_numbers_are_explained():
    linear = Linear(2, 1)
    linear.params = [np.array([[1], [2]]), np.array([0])]
    graph = BaseGraph([linear])
    graph.forward([[1.0, 2.0]])
    graph.backward(np.ones((1, 1)))
    with pytest.raises(TypeError, match="Linear: found parameters of int64, expected float32 or float64"):
        graph.optimstep(0.1)
    assert linear.params[0].tolist() == [[1], [2]]
