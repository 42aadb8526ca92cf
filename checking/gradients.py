"""Checks of a student's nodes of Part 1 and of the graph against central differences (handout, Part 1).

Each takes a process, whose ``new`` makes a ``StudentNode``, and raises Wrong. An error is named by the value that it
gives: the right gradients are numbers here, and their formulas are the student's to find.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from checking.messages import Unclear, Wrong

N, IN_DIM, OUT_DIM = 5, 4, 3  # examples, and sizes of an example: all different, so that a transpose shows
Array = np.ndarray
Reasons = Iterable[tuple[Any, str]]  # values that common errors give, and words on each


def check_linear(student: Any) -> None:
    rng = np.random.default_rng(0)
    node = student.new("StudentNode", "linear", IN_DIM, OUT_DIM)
    shapes = [np.shape(param) for param in node.params()]
    if len(shapes) != 2 or shapes[0] != (IN_DIM, OUT_DIM) or shapes[1] not in ((OUT_DIM,), (1, OUT_DIM)):
        found = " and ".join(map(str, shapes)) or "none"
        expected = f"a weight ({IN_DIM}, {OUT_DIM}) and a bias ({OUT_DIM},)"
        raise Wrong(f"params of Linear({IN_DIM}, {OUT_DIM}): found shapes {found}, expected {expected}")
    params = weight, bias = [numbers(rng, shape) for shape in shapes]
    x, grad = rng.standard_normal((N, IN_DIM)), rng.standard_normal((N, OUT_DIM))
    node.set_params(params)
    compare("forward", node.forward(x), x @ weight + bias, [(x @ weight, "the bias is missing")])
    of_bias = [
        (grad, "the sum over the batch is missing"),
        (grad.sum(1), "summed over the wrong axis: the batch is the first"),
        (grad.sum(), "summed over everything, and not over the batch alone"),
        *((grad[i], "one example alone, in place of the sum over the batch") for i in (0, -1)),
    ]
    check_backward(node, x, grad, lambda: x @ weight + bias, of_bias, W=weight, b=bias)


def check_relu(student: Any) -> None:
    def reasons(x: Array, grad: Array, y: Array) -> Reasons:
        return [
            (grad, "the mask is missing: where x is negative, the gradient is 0"),
            (grad * (x < 0), "the mask is of the wrong side"),
            *((grad * array, "multiplied by x or y, and not by a mask of 0 and 1") for array in (x, y)),
            (grad * (grad > 0), "the mask is that of grad; it should be that of x"),
        ]

    check_activation(student, "relu", lambda x: (x + np.abs(x)) / 2, reasons)
    node, x, grad = student.new("StudentNode", "relu"), np.zeros((1, 2)), np.array([[1.0, -1.0]])
    compare("forward at x = 0", node.forward(x), x)
    slope = np.asarray(node.backward(grad), np.float64) / grad
    if not np.all((slope >= 0) & (slope <= 1)):
        often = "\nOften: a division by x, which is 0 there." if np.isnan(slope).any() else ""
        raise Wrong(f"dL/dx at x = 0: found {slope.flat[0]:.3g} times grad, expected 0 to 1 times grad.{often}")


def check_sigmoid(student: Any) -> None:
    def sigmoid(x: Array) -> Array:
        return (1 + np.tanh(x / 2)) / 2

    def reasons(x: Array, grad: Array, y: Array) -> Reasons:
        return [
            (grad * x * (1 - x), "x in place of y"),
            (grad * numerical_gradient(lambda: np.sum(sigmoid(y)), y), "the sigmoid is applied twice"),
            (grad * y, "the factor 1 - y is missing"),
            (grad * (1 - y), "the factor y is missing"),
        ]

    check_activation(student, "sigmoid", sigmoid, reasons)


def check_mse(student: Any) -> None:
    output, target = np.random.default_rng(0).standard_normal((2, N, OUT_DIM))
    node, error = student.new("StudentNode", "mse"), output - target
    of_loss = [
        (np.sum(error**2), "a sum in place of the mean over all elements"),
        (np.sum(error**2) / N, "a mean over the examples alone: divide by the number of all elements"),
        (np.mean(error**2) / 2, "a factor 1/2 too much"),
        (error**2, "the mean is missing: the loss is one number"),
    ]
    compare("forward", node.forward(output, target), np.mean(error**2), of_loss)
    expected = numerical_gradient(lambda: np.mean((output - target) ** 2), output)
    of_grad = [
        (-expected, "the sign: it should be output - target"),
        (expected / 2, "the factor 2 of the derivative of a square is missing"),
        (error, "the factor 2, and the division by the number of elements, are missing"),
        (expected * error.size, "a sum in place of a mean: divide by the number of elements"),
        (expected * OUT_DIM, "divided by the number of examples alone: the mean is over all elements"),
        (expected * OUT_DIM / 2, "divided by the number of examples alone, and without the factor 2"),
    ]
    compare("dL/doutput", node.backward(), expected, of_grad)


def check_activation(student: Any, kind: str, function: Callable[..., Array], reasons: Callable[..., Reasons]) -> None:
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, N, IN_DIM))
    x += 0.1 * np.sign(x)  # away from the kink of ReLU
    node, y = student.new("StudentNode", kind), function(x)
    of_y = [(function(-x), "the sign of x"), (np.exp(-x), "1 / (1 + ...) is missing")]
    compare("forward", node.forward(x), y, of_y)
    check_backward(node, x, grad, lambda: function(x), reasons(x, grad, y))
    alone = node.backward(grad)
    node.forward(x)
    student.new("StudentNode", kind).forward(-x)
    if not np.allclose(node.backward(grad), alone, equal_nan=True):
        raise Wrong("two nodes share what forward keeps: it belongs to self, and not to the class")
    if node.params() or node.grads():  # without these attributes, which super().__init__() makes, it is Wrong
        raise Wrong("found parameters or gradients of parameters, expected empty lists")


def check_backward(
    node: Any, x: Array, grad: Array, function: Callable[[], Array], reasons: Reasons, **params: Array
) -> None:
    """Compares dL/dx and the gradients of the parameters, of L = sum of grad y, with central differences. ``function``
    gives y as it is to be, with which the student's forward has been compared."""
    arrays = {"dL/dx": x, **{f"dL/d{name}": param for name, param in params.items()}}
    # Where the node computes in float32, its gradients are of that precision, whatever their type.
    y = np.asarray(node.forward(x))
    dtype = y.dtype if y.dtype in PRECISION else np.float64

    def gradients(weights: Array) -> dict[str, Array]:
        loss = lambda: np.sum(weights * function())  # noqa: E731
        return {name: numerical_gradient(loss, array).astype(dtype) for name, array in arrays.items()}

    expected, without_grad = gradients(grad), gradients(np.ones_like(grad))
    found = [node.backward(grad), *(node.grads() if params else [])]
    if len(found) != len(arrays):
        raise Wrong(f"after backward: found {len(found) - 1} gradients, expected {len(params)}, in the order of params")
    for name, array in zip(arrays, found, strict=True):
        others = [(expected[other], f"this is {other}: gradients are in the order of params") for other in arrays]
        chain = (without_grad[name], "the chain rule is missing: multiply by grad, dL/dy")
        compare(name, array, expected[name], [*reasons, chain, *others])
    if params:
        node.forward(x)
        again = [node.backward(grad), *node.grads()]
        if len(again) != len(found) or not all(map(np.allclose, again, found)):
            raise Wrong("a second backward gives other gradients: they accumulate, and should be replaced")


def check_graph(student: Any) -> None:
    """A graph of two of the student's own Linear."""
    try:
        check_linear(student)
    except Wrong:
        raise Unclear("not checked: Linear is to be right first") from None
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, N, IN_DIM))
    shapes = [param.shape for param in student.new("StudentGraph", IN_DIM).params()]
    params = [numbers(rng, shape) for shape in shapes]

    def first(w: Array, b: Array, *_: Array) -> Array:
        return x @ w + b

    def both(w: Array, b: Array, w1: Array, b1: Array) -> Array:
        return first(w, b) @ w1 + b1

    expected = [numerical_gradient(lambda: np.sum(grad * both(*params)), array) for array in params]
    alone = [numerical_gradient(lambda: np.sum(grad * first(*params)), array) for array in params]
    names = [f"{which} of node {i}" for i in (0, 1) for which in ("weight", "bias")]
    rates, after = (0.1, 0.03), []
    for lr in rates:
        graph = student.new("StudentGraph", IN_DIM)
        graph.set_params(params)
        compare("forward", graph.forward(x), both(*params))
        dx, found = graph.backward(grad), graph.grads()
        if len(found) != len(params):
            raise Wrong("after backward, a node has no gradients: it calls that of each, from the last to the first")
        for i in 2, 3, 0, 1:
            reasons = [(alone[i], "each node is to be given what the next one returned")]
            compare(f"gradient of the {names[i]}", found[i], expected[i], reasons)
        if dx is not None:  # the course's returns nothing
            compare("what backward returns, dL/dx", dx, numerical_gradient(lambda: np.sum(grad * both(*params)), x))
        graph.optimstep(lr)
        after.append(graph.params())
        y = graph.forward(x)
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
            compare(f"after optimstep({lr}), the {names[i]}", found[i], before - step, reasons)
    words = "Linear computes with arrays that are not those in params: self.params is to be read in forward"
    compare("forward after optimstep", y, both(*after[-1]), [(y, words)])


def numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random numbers that are the same in float32."""
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


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
]


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(1, 3) -> (3,): a gradient (3,) can be subtracted from a parameter (1, 3), though not the other way round."""
    return shape if not shape or shape[0] != 1 else _without_leading_ones(shape[1:])


CHECKS = {"Linear": check_linear, "ReLU": check_relu, "Sigmoid": check_sigmoid, "MSE": check_mse, "graph": check_graph}
