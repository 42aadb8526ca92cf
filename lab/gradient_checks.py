"""Checks of a student's nodes of Part 1 and of the graph against central differences (handout, Part 1).

Each takes the ``StudentNodes`` of lab/student_code.py, or what calls them in another process; it gives notes, which do
not count, and raises Wrong.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lab.student_code import Wrong

N, IN_DIM, OUT_DIM = 5, 4, 3  # examples, and sizes of an example: all different, so that a transpose shows
Array = np.ndarray
Reasons = Iterable[tuple[Any, str]]  # values that common errors give, and words on each


def check_linear(nodes: Any) -> list[str]:
    rng = np.random.default_rng(0)
    node = nodes.make("linear", IN_DIM, OUT_DIM)
    shapes = [np.shape(param) for param in nodes.params(node)]
    if len(shapes) != 2:
        raise Wrong(f"params: found {len(shapes)} arrays, expected a weight and a bias")
    if shapes[0] != (IN_DIM, OUT_DIM) or shapes[1] not in ((OUT_DIM,), (1, OUT_DIM)):
        raise Wrong(
            f"params of Linear({IN_DIM}, {OUT_DIM}): found shapes {shapes[0]} and {shapes[1]}, expected a weight "
            f"({IN_DIM}, {OUT_DIM}) and a bias ({OUT_DIM},)"
        )
    params = weight, bias = [rng.standard_normal(shape) for shape in shapes]
    x, grad = rng.standard_normal((N, IN_DIM)), rng.standard_normal((N, OUT_DIM))
    nodes.set_params(node, params)
    compare("forward", nodes.forward(node, x), x @ weight + bias, [(x @ weight, "the bias is missing")])
    of_weight = [
        (x.T @ grad / N, "a mean over the batch in place of the sum"),
        (x.T @ np.ones_like(grad), "the chain rule is missing: multiply by grad"),
        (grad.sum(0), "this is dL/db: the gradients are in the order of params"),
    ]
    of_bias = [
        (grad, "the sum over the batch is missing"),
        (grad.mean(0), "a mean over the batch in place of the sum"),
        (grad.sum(1), "summed over the wrong axis: the batch is the first"),
        (grad.sum(), "summed over everything, and not over the batch alone"),
        (np.full(OUT_DIM, N), "the chain rule is missing: sum grad, and not ones"),
        (grad[0], "one example alone, in place of the sum over the batch"),
        (grad[-1], "one example alone, in place of the sum over the batch"),
    ]
    of_params = {"dL/dW": (weight, of_weight), "dL/db": (bias, of_bias)}
    check_backward(nodes, node, x, grad, lambda: x @ weight + bias, of_params)
    nodes.set_params(node, [param.astype(np.float32) for param in params])
    return notes_in_float32(nodes, node, grad, x)


def check_activation(
    nodes: Any, kind: str, function: Callable[[Array], Array], reasons: Callable[..., Reasons]
) -> list[str]:
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, N, IN_DIM))
    x += 0.1 * np.sign(x)  # away from the kink of ReLU
    node = nodes.make(kind)
    of_y = [(function(-x), "the sign of x"), (np.exp(-x), "1 / (1 + ...) is missing")]
    compare("forward", nodes.forward(node, x), function(x), of_y)
    check_backward(nodes, node, x, grad, lambda: function(x), {}, reasons(x, grad))
    nodes.forward(node, x)
    alone = nodes.backward(node, grad)
    nodes.forward(node, x)
    other = nodes.make(kind)
    nodes.forward(other, -x)
    if not np.allclose(nodes.backward(node, grad), alone, equal_nan=True):
        raise Wrong("two nodes share what forward keeps: it belongs to self, and not to the class")
    if nodes.params(node) or nodes.grads(node):  # without these attributes, which super().__init__() makes, it is Wrong
        raise Wrong("found parameters or gradients of parameters, expected empty lists")
    return notes_in_float32(nodes, node, grad, x)


def check_relu(nodes: Any) -> list[str]:
    notes = check_activation(nodes, "relu", lambda x: np.maximum(x, 0), of_relu)
    node, x, grad = nodes.make("relu"), np.zeros((1, 2)), np.array([[1.0, -1.0]])
    compare("forward at x = 0", nodes.forward(node, x), x)
    slope = np.asarray(nodes.backward(node, grad), np.float64) / grad
    if not np.all((slope >= 0) & (slope <= 1)):
        often = "\nOften: a division by x, which is 0 there." if np.isnan(slope).any() else ""
        raise Wrong(f"dL/dx at x = 0: found {slope.flat[0]:.3g} times grad, expected 0 to 1 times grad.{often}")
    return notes


def of_relu(x: Array, grad: Array) -> Reasons:
    return [
        (grad, "the mask is missing: where x is negative, the gradient is 0"),
        (grad * (x < 0), "the mask is of the wrong side: the gradient passes where x is positive"),
        (x > 0, "the chain rule is missing: multiply the mask by grad"),
        (grad * np.maximum(x, 0), "multiplied by y, and not by a mask of 0 and 1"),
        (grad * x, "multiplied by x, and not by a mask of 0 and 1"),
        (grad * (grad > 0), "the mask is that of grad; it should be that of x"),
        (np.maximum(x, 0), "this is y, and not the gradient"),
    ]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def check_sigmoid(nodes: Any) -> list[str]:
    notes = check_activation(nodes, "sigmoid", sigmoid, of_sigmoid)
    node, x = nodes.make("sigmoid"), np.array([[-1000.0, 1000.0]])
    nodes.warnings()
    try:
        found = [nodes.forward(node, x), nodes.backward(node, np.ones_like(x))]
    except Wrong as wrong:
        return [*notes, f"at x = -1000 or 1000, which the lab does not ask for: {wrong}"]
    if not np.isfinite(np.asarray(found, np.float64)).all():
        notes.append("at x = -1000 or 1000, which the lab does not ask for, forward or backward gives nan or inf")
    elif "overflow" in nodes.warnings():
        notes.append("at x = -1000 exp overflows, of which NumPy warns; the values are right")
    return notes


def of_sigmoid(x: Array, grad: Array) -> Reasons:
    y = sigmoid(x)
    twice = sigmoid(y)
    return [
        (y * (1 - y), "the chain rule is missing: multiply by grad"),
        (grad * x * (1 - x), "x in place of y: the derivative is y (1 - y)"),
        (grad * twice * (1 - twice), "the sigmoid is applied twice: keep x, or use y as it is"),
        (grad * y, "the factor 1 - y is missing"),
        (grad * (1 - y), "the factor y is missing"),
        (grad * y * (1 + y), "a sign: the derivative is y (1 - y)"),
    ]


def check_mse(nodes: Any) -> list[str]:
    rng = np.random.default_rng(0)
    output, target = rng.standard_normal((2, N, OUT_DIM))
    node = nodes.make("mse")
    error = output - target
    right = 2 * error / error.size
    of_loss = [
        (np.sum(error**2), "a sum in place of the mean over all elements"),
        (np.sum(error**2) / N, "a mean over the examples alone: divide by the number of all elements"),
        (np.mean(error**2) / 2, "a factor 1/2 too much"),
        (np.mean(np.abs(error)), "absolute errors in place of squared ones"),
        (np.mean(error**2, 0), "a mean for each column: the loss is one number"),
        (np.mean(error**2, 1), "a mean for each example: the loss is one number"),
        (error**2, "the mean is missing: the loss is one number"),
    ]
    of_grad = [
        (-right, "the sign: it should be output - target"),
        (right / 2, "the factor 2 of the derivative of a square is missing"),
        (error, "the factor 2, and the division by the number of elements, are missing"),
        (2 * error, "a sum in place of a mean: divide by the number of elements"),
        (2 * error / N, "divided by the number of examples alone: the mean is over all elements"),
        (error / N, "divided by the number of examples alone, and without the factor 2"),
        (np.mean(error**2), "this is the loss, and not its gradient"),
        (2 * (error // error.size), WHOLE),
        (0 * error, "it is 0: it has not been computed, or // stands in place of /"),
    ]
    compare("forward", nodes.forward(node, output, target), np.mean(error**2), of_loss)
    expected = numerical_gradient(lambda: np.mean((output - target) ** 2), output)
    compare("dL/doutput", nodes.backward(node), expected, of_grad)
    return notes_in_float32(nodes, node, None, output, target)


def check_backward(
    nodes: Any,
    node: int,
    x: Array,
    grad: Array,
    function: Callable[[], Array],
    params: Mapping[str, tuple[Array, Reasons]],
    of_x: Reasons = (),
) -> None:
    """Compares the gradients of L = sum of grad y with central differences: dL/dx, and those of the parameters.

    ``function`` gives y as it is to be, with which the student's forward has been compared.
    """

    def loss() -> float:
        return float(np.sum(grad * function()))

    # Where the node computes in float32, its gradients are of that precision, whatever their type.
    y = np.asarray(nodes.forward(node, x))
    dtype = y.dtype if y.dtype in PRECISION else np.float64
    dx, grads = nodes.backward(node, grad), nodes.grads(node) if params else []
    compare("dL/dx", dx, numerical_gradient(loss, x).astype(dtype), of_x)
    if len(grads) != len(params):
        raise Wrong(f"after backward there are {len(grads)} gradients, expected {len(params)}, in the order of params")
    for (name, (param, reasons)), found in zip(params.items(), grads, strict=True):
        compare(name, found, numerical_gradient(loss, param).astype(dtype), reasons)
    if params:
        nodes.forward_again(node, x)
        nodes.backward(node, grad)
        again = nodes.grads(node)
        if len(again) != len(grads) or not all(map(np.allclose, again, grads)):
            raise Wrong("a second backward gives other gradients: they accumulate, and should be replaced")


def notes_in_float32(nodes: Any, node: int, grad: Array | None, *inputs: Array) -> list[str]:
    """Notes on a node that makes float64 of float32; ``grad`` is None for a loss, which may be any number."""
    y = nodes.forward(node, *(x.astype(np.float32) for x in inputs))
    dx = nodes.backward(node) if grad is None else nodes.backward(node, grad.astype(np.float32))
    found = {"backward": dx} if grad is None else {"forward": y, "backward": dx}
    names = [name for name, array in found.items() if np.asarray(array).dtype == np.float64]
    return [f"{' and '.join(names)}: float64 where all that is given is float32; training is slower"] if names else []


def check_graph(nodes: Any) -> list[str]:
    rng = np.random.default_rng(0)
    x, grad, *params = rng.standard_normal((4, N, IN_DIM))
    sums = x + params[0], params[1] - (x + params[0]) ** 2

    def loss() -> float:
        return float(np.sum(grad * ((-((x + params[0]) ** 2)) + params[1]) ** 2))

    expected = [numerical_gradient(loss, param) for param in params]
    rates, after = (0.1, 0.03), []
    for lr in rates:
        first, _, last = steps = [nodes.make_step(param) for param in (params[0], None, params[1])]
        graph = nodes.make_graph(steps)
        compare("forward", nodes.forward(graph, x), sums[1] ** 2)
        dx = nodes.backward(graph, grad)
        calls = [steps.index(node) for node in nodes.calls() if node in steps]
        if calls != [2, 1, 0]:
            order = ", ".join(map(str, calls)) or "none"
            raise Wrong(f"backward calls nodes {order} of 0, 1, 2: it should be each, in the reverse order, 2, 1, 0")
        for i, node in ((1, last), (0, first)):
            reasons = [
                (2 * sums[i] * grad, "each node is to be given what the next one returned"),
                (2 * sums[i], "it was given ones, in place of grad or what the next node returned"),
            ]
            compare(f"nodes 0, 1, 2: dL/dparam of node {2 * i}", (nodes.grads(node) or [None])[0], expected[i], reasons)
        if dx is not None:  # the course's returns nothing
            compare("what backward returns, dL/dx", dx, numerical_gradient(loss, x))
        nodes.optimstep(graph, lr)
        after.append([(nodes.params(node) or [None])[0] for node in (first, last)])
    try:
        for lr, found, other in zip(rates, after, reversed(after), strict=True):
            for i, before in enumerate(params):
                step = lr * expected[i]
                reasons = [
                    (before, "nothing has changed: param -= ... changes an array, param = param - ... makes another"),
                    (before + step, "the sign: a step goes against the gradient"),
                    (before - expected[i], "lr is missing"),
                    (-step, "the parameter is replaced by the step, in place of changed by it"),
                    (other[i], "the step is the same for every lr: a number stands in place of lr"),
                ]
                compare(f"after optimstep({lr}), the parameter of node {2 * i}", found[i], before - step, reasons)
    except Wrong as of_steps:
        try:  # it may change nodes of certain classes alone
            changed = all([check_step_of_linear(nodes, x, lr) for lr in rates])
        except Wrong:
            changed = False
        if not changed:
            raise of_steps from None
    else:
        check_step_of_linear(nodes, x, rates[0])
    return []


def check_step_of_linear(nodes: Any, x: Array, lr: float) -> bool:
    """Whether a step changes what the student's own Linear computes; what is wrong with Linear, its own check says."""
    try:
        node, other = (nodes.make("linear", IN_DIM, OUT_DIM) for _ in range(2))
        graph = nodes.make_graph([node])
        nodes.backward(graph, np.ones_like(nodes.forward(graph, x)))
        before, grads = nodes.params(node), nodes.grads(node)
        if not all(np.shape(grad) in (np.shape(b), np.shape(b)[1:]) for b, grad in zip(before, grads, strict=True)):
            return False
    except (Wrong, ValueError):
        return False
    nodes.optimstep(graph, lr)
    after = nodes.params(node)
    for param, found, grad in zip(before, after, grads, strict=True):
        reasons = [(param, "it has not changed: a step changes every array in params")]
        compare("after optimstep, the parameters of a Linear", found, param - lr * grad, reasons)
    nodes.set_params(other, after)
    words = "Linear computes with arrays that are not those in params: self.params is to be read in forward"
    found, right = nodes.forward(graph, x), nodes.forward(other, x)
    compare("after optimstep, forward of a graph of your Linear", found, right, [(found, words)])
    return bool(grads)


# Comparisons


def numerical_gradient(loss: Callable[[], Any], array: Array) -> Array:
    """dloss/darray by central differences, (loss(a + h) - loss(a - h)) / 2h, one entry of the array at a time."""
    step = 1e-5
    gradient = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = float(loss())
        array[index] = value - step
        gradient[index] = (above - float(loss())) / (2 * step)
        array[index] = value
    return gradient


PRECISION = {np.dtype(np.float16): 1e-2, np.dtype(np.float32): 1e-4}  # of a comparison; 1e-6 in float64


def compare(what: str, found: Any, expected: Any, reasons: Reasons = ()) -> None:
    """Raises Wrong, with the entry that differs most, unless both are the same but for rounding."""
    if found is None:
        raise Wrong(f"{what}: there is none; forward returns y, backward returns dL/dx and fills the list of gradients")
    found, expected = np.asarray(found), np.asarray(expected)
    precision = max(PRECISION.get(array.dtype, 1e-6) for array in (found, expected))
    tolerance = precision * max(float(np.abs(expected).max()), 1e-3)
    found = found if found.dtype.kind == "f" else found.astype(np.float64)
    if found.shape in (expected.shape, _without_leading_ones(expected.shape)):
        found = found.reshape(expected.shape)
        wrong = ~(np.abs(found - expected) <= tolerance)
        if not wrong.any():
            return
        index = np.unravel_index(np.argmax(np.nan_to_num(np.abs(found - expected), nan=np.inf)), found.shape)
        place = f"[{', '.join(map(str, index))}]" if index else ""
        off = f"off by {found[index] - expected[index]:.3g}"
        words = f"{what}{place}: found {found[index]:.6g}, expected {expected[index]:.6g}, {off}"
        words += f"; {wrong.sum()} of {wrong.size} entries are wrong" if index else ""
    else:
        words = f"{what}: found an array of shape {found.shape}, expected {expected.shape}"
        if _without_leading_ones(found.shape) == expected.shape:
            raise Wrong(f"{words}, that of the parameter.\nOften: keepdims.")
    known = [*reasons, (expected.T, "it is transposed"), (np.floor(expected), WHOLE)]
    known += [(factor * expected, reason) for factor, reason in FACTORS]
    for value, reason in known:
        same_shape = _without_leading_ones(found.shape) == _without_leading_ones(np.shape(value))
        if same_shape and np.all(np.abs(found - np.reshape(value, found.shape)) <= tolerance):
            raise Wrong(f"{words}.\nOften: {reason}.")
    raise Wrong(f"{words}.")


WHOLE = "// is a division that gives whole numbers: / is meant"
FACTORS = [
    (0, "it is 0: it has not been computed"),
    (-1, "the sign"),
    (1 / N, "a mean over the batch in place of the sum"),
    (N, "a sum over the batch in place of the mean"),
    (2, "a factor 2 too much"),
    (0.5, "a factor 2 is missing"),
]


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(1, 3) -> (3,): a gradient (3,) can be subtracted from a parameter (1, 3), though not the other way round."""
    return shape if not shape or shape[0] != 1 else _without_leading_ones(shape[1:])


CHECKS: dict[str, Callable[[Any], list[str]]] = {
    "Linear": check_linear,
    "ReLU": check_relu,
    "Sigmoid": check_sigmoid,
    "MSE": check_mse,
    "graph": check_graph,
}
