"""For students: checks your own nodes of Part 1, and the graph, against central differences (handout, Part 1).

    python check_gradients.py

For each node it says which gradient is wrong, at which entry, what it is, what it should be, and what such an error
often comes from. It takes the nodes of this lab (``grads``) and of the course's framework (``grad``, ``cache``).
``python check_gradients.py FOLDER`` checks FOLDER/autograd.

It runs the code in that folder, so use it on your own alone.
"""

import importlib.util
import inspect
import re
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lab.threads  # noqa: F401  (before NumPy)

import numpy as np

from lab.command_line import Parser, log
from lab.errors import UserError, one_line_errors

N, IN_DIM, OUT_DIM = 5, 4, 3  # examples, and sizes of an example: all different, so that a transpose shows
Array = np.ndarray
Reasons = Iterable[tuple[Any, str]]  # values that common errors give, and words on each


class Wrong(Exception):
    """What is wrong with a node: what was found and expected, and what it often comes from."""


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Checks the gradients of your own nodes of Part 1. It runs the code in FOLDER/autograd.")
    here = str(Path(__file__).resolve().parent)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=here, help="where autograd/ is")
    folder = Path(parser.parse_args(argv).folder).resolve()
    if not (folder / "autograd" / "Nodes.py").is_file():
        raise UserError(f"{folder}: found no autograd/Nodes.py in it; give the folder in which autograd is")
    log(f"This runs the code in {folder / 'autograd'}.")
    nodes, graph = load(folder)
    checks: dict[str, Callable[[], Any]] = {
        "Linear": lambda: check_linear(find(nodes, "linear")),
        "ReLU": lambda: check_activation(find(nodes, "relu"), lambda x: np.maximum(x, 0), of_relu),
        "Sigmoid": lambda: check_activation(find(nodes, "sigmoid"), sigmoid, of_sigmoid),
        "MSE": lambda: check_mse(find(nodes, "mse", "mseloss")),
        "graph": lambda: check_graph(find(graph, "basegraph", "graph")),
    }
    wrong = 0
    for name, check in checks.items():
        try:
            check()
        except Exception as error:  # also of the student's code
            wrong += 1
            show("NO", name, str(error) if isinstance(error, Wrong) else in_words(error, folder))
        else:
            show("ok", name, "")
    log(f"\n{len(checks) - wrong} of {len(checks)} right.")
    if wrong:
        raise SystemExit(1)


def show(mark: str, name: str, words: str) -> None:
    first, *others = [line for part in words.split("\n") for line in textwrap.wrap(part, 66)] or [""]
    log(f"{mark}  {name:8}  {first}".rstrip())
    for line in others:
        log(f"{'':14}{line}")


# The student's code


def load(folder: Path) -> tuple[Any, Any]:
    """The modules autograd.Nodes and autograd.BaseGraph of a folder; UserError if they cannot be imported."""
    place = folder / "autograd"
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "autograd"}
    package = types.ModuleType("autograd")
    package.__path__ = [str(place)]
    spec = importlib.util.spec_from_file_location(
        "autograd", place / "__init__.py", submodule_search_locations=package.__path__
    )
    sys.path.insert(0, str(folder))
    try:
        if spec and spec.loader and (place / "__init__.py").exists():
            package = importlib.util.module_from_spec(spec)
            sys.modules["autograd"] = package
            spec.loader.exec_module(package)
        sys.modules["autograd"] = package
        return importlib.import_module("autograd.Nodes"), importlib.import_module("autograd.BaseGraph")
    except Exception as error:
        raise UserError(f"{place} cannot be imported: {in_words(error, folder)}") from None
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "autograd"]:
            del sys.modules[name]
        sys.modules.update(kept)


def find(module: Any, *names: str) -> Any:
    """The class of one of these names, in whatever case, as in MyLinear or linear_layer."""
    for name, value in vars(module).items():
        if isinstance(value, type) and re.sub("layer|node|^my|_", "", name.lower()) in names:
            return value
    raise Wrong(f"no such class in {Path(module.__file__).name}")


def in_words(error: BaseException, folder: Path) -> str:
    """An error in the student's code, with the line that it comes from."""
    if isinstance(error, NotImplementedError):
        return f"not written yet: {error}"
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '').name}, line {error.lineno}: {error.msg}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if str(folder / "autograd") in frame.filename
    ]
    place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line}\n" if frames else ""
    shapes = isinstance(error, ValueError) and re.search("shape|dimension|broadcast|aligned", str(error))
    hint = "\nOften: a transpose is missing, or factors are in the wrong order." if shapes else ""
    return f"{place}{type(error).__name__}: {error}{hint}"


def forward(node: Any, *inputs: Array) -> Any:
    if hasattr(node, "flush"):  # the course's nodes keep every input until then
        node.flush()
    y = node.forward(*(x.copy() for x in inputs))
    if y is None:
        raise Wrong("forward returns nothing")
    return y


def grads_of(node: Any) -> list[Any]:
    return list(node.grads if hasattr(node, "grads") else node.grad)


# Checks


def check_linear(cls: Any) -> None:
    rng = np.random.default_rng(0)
    node = cls(IN_DIM, OUT_DIM)
    if len(node.params) != 2:
        raise Wrong(f"params: found {len(node.params)} arrays, expected a weight and a bias")
    for param in node.params:
        param[...] = rng.standard_normal(param.shape)
    x, grad = rng.standard_normal((N, IN_DIM)), rng.standard_normal((N, OUT_DIM))
    weight, bias = kept = list(node.params)
    node.params = [np.zeros(param.shape) for param in kept]
    reads_params = not np.any(forward(node, x))  # or it has them under other names as well, and computes with those
    node.params = [param.astype(np.float64) for param in kept] if reads_params else kept
    compare("forward", forward(node, x), x @ weight + bias, [(x @ weight, "the bias is missing")])
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
    check_backward(node, x, grad, {"dL/dW": of_weight, "dL/db": of_bias})


def check_activation(cls: Any, function: Callable[[Array], Array], reasons: Callable[..., Reasons]) -> None:
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, N, IN_DIM))
    x += 0.1 * np.sign(x)  # away from the kink of ReLU
    node = cls()
    given = x.copy()
    y = node.forward(given)
    if not np.array_equal(given, x):
        raise Wrong("forward changes the array x that it is given: it should make a new one")
    compare("forward", y, function(x), [(function(-x), "the sign of x"), (np.exp(-x), "1 / (1 + ...) is missing")])
    check_backward(node, x, grad, {}, reasons(x, grad))


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


def check_mse(cls: Any) -> None:
    rng = np.random.default_rng(0)
    output, target = rng.standard_normal((2, N, OUT_DIM))
    try:
        node, inputs = cls(), [output, target]
    except TypeError:  # it is given the target when it is made
        node, inputs = cls(target.copy()), [output]
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
    ]
    compare("forward", forward(node, *inputs), np.mean(error**2), of_loss)
    forward(node, *inputs)
    takes_grad = any(each.default is each.empty for each in inspect.signature(node.backward).parameters.values())
    found = node.backward(1.0) if takes_grad else node.backward()
    expected = numerical_gradient(lambda: forward(node, *inputs), output, coarse=_coarse(found))
    compare("dL/doutput", found, expected, of_grad)


def check_backward(node: Any, x: Array, grad: Array, params: dict[str, Reasons], of_x: Reasons = ()) -> None:
    """Compares the gradients of L = sum of grad y with central differences: dL/dx, and those of the parameters."""

    def loss() -> float:
        return float(np.sum(grad * forward(node, x)))

    coarse = _coarse(forward(node, x))
    passed = grad.copy()
    dx = node.backward(passed)
    grads: list[Any] = [None if each is None else np.array(each) for each in grads_of(node)] if params else []
    if not np.array_equal(passed, grad):
        raise Wrong("backward changes the array grad that it is given: it should make a new one")
    compare("dL/dx", dx, numerical_gradient(loss, x, coarse), of_x)
    if len(grads) != len(params):
        raise Wrong(f"after backward there are {len(grads)} gradients, expected {len(params)}, in the order of params")
    for i, (name, reasons) in enumerate(params.items()):
        compare(name, grads[i], numerical_gradient(loss, node.params[i], coarse), reasons)
    if hasattr(node, "grads"):
        forward(node, x)
        node.backward(grad.copy())
        node.backward(grad.copy())
        if len(node.grads) != len(grads) or any(not np.allclose(*both) for both in zip(node.grads, grads, strict=True)):
            raise Wrong("a second backward gives other gradients: they accumulate, and should be replaced")


class Step:
    """A node for the check of the graph, y = (x + p)^2 or y = -x, with the names of this lab and of the course.

    Attributes:
        calls: where backward was called, the numbers of the nodes; shared by all nodes.
    """

    def __init__(self, number: int, calls: list[int], *params: Array) -> None:
        self.number, self.calls, self.params, self.name = number, calls, list(params), "step"
        self.grads: list[Array] = []
        self.grad, self.cache = self.grads, self.grads

    def forward(self, x: Array, *_: Any) -> Array:
        self.sum = sum(self.params, x)
        return self.sum**2 if self.params else -x

    def backward(self, grad: Array, *_: Any) -> Array:
        self.calls.append(self.number)
        dx = 2 * self.sum * grad if self.params else -grad
        self.grads[:] = [dx] * len(self.params)
        return dx

    def flush(self) -> None:
        self.grads.clear()


def check_graph(cls: Any) -> None:
    rng = np.random.default_rng(0)
    x, grad, *params = rng.standard_normal((4, N, IN_DIM))
    calls: list[int] = []
    nodes = [Step(0, calls, params[0].copy()), Step(1, calls), Step(2, calls, params[1].copy())]
    graph = cls(nodes)

    def loss() -> float:
        return float(np.sum(grad * ((-((x + params[0]) ** 2)) + params[1]) ** 2))

    compare("forward", graph.forward(x.copy()), (-((x + params[0]) ** 2) + params[1]) ** 2)
    dx = graph.backward(grad.copy())
    if calls != [2, 1, 0]:
        order = ", ".join(map(str, calls)) or "none"
        raise Wrong(f"backward calls nodes {order} of 0, 1, 2: it should be each, in the reverse order, 2, 1, 0")
    expected = [numerical_gradient(loss, param, coarse=False) for param in params]
    for i, right in zip((2, 0), reversed(expected), strict=True):
        reasons = [
            (2 * nodes[i].sum * grad, "each node is to be given what the next one returned"),
            (2 * nodes[i].sum, "it was given ones, in place of grad or what the next node returned"),
        ]
        compare(f"nodes 0, 1, 2: dL/dparam of node {i}", nodes[i].grads[0], right, reasons)
    compare("what backward returns, dL/dx", dx, numerical_gradient(loss, x, coarse=False))
    graph.optimstep(0.1)
    for i, before, right in zip((0, 2), params, expected, strict=True):
        step = 0.1 * right
        reasons = [
            (before, "nothing has changed: param -= ... changes an array, param = param - ... makes another"),
            (before + step, "the sign: a step goes against the gradient"),
            (before - right, "lr is missing"),
            (-step, "the parameter is replaced by the step, in place of changed by it"),
        ]
        compare(f"after optimstep, the parameter of node {i}", nodes[i].params[0], before - step, reasons)


# Comparisons


def numerical_gradient(loss: Callable[[], Any], array: Array, coarse: bool) -> Array:
    """dloss/darray by central differences, (loss(a + h) - loss(a - h)) / 2h, one entry of the array at a time.

    ``coarse``: for a node that computes in float32, of which a small difference would be rounding alone.
    """
    step = 1e-2 if coarse else 1e-5
    gradient = np.zeros(array.shape, np.float32 if coarse else np.float64)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = float(loss())
        array[index] = value - step
        gradient[index] = (above - float(loss())) / (2 * step)
        array[index] = value
    return gradient


def _coarse(found: Any) -> bool:
    return getattr(found, "dtype", np.dtype(np.float64)) in (np.float32, np.float16)


def compare(what: str, found: Any, expected: Any, reasons: Reasons = ()) -> None:
    """Raises Wrong, with the entry that differs most, unless both are the same but for rounding."""
    if found is None:
        raise Wrong(f"{what}: there is none; forward returns y, backward returns dL/dx and fills the list of gradients")
    found, expected = np.asarray(found), np.asarray(expected)
    tolerance = (1e-2 if _coarse(found) or _coarse(expected) else 1e-6) * max(float(np.abs(expected).max()), 1e-3)
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
    known = [*reasons, (expected.T, "it is transposed")]
    known += [(factor * expected, reason) for factor, reason in FACTORS]
    for value, reason in known:
        same_shape = _without_leading_ones(found.shape) == _without_leading_ones(np.shape(value))
        if same_shape and np.all(np.abs(found - np.reshape(value, found.shape)) <= tolerance):
            raise Wrong(f"{words}.\nOften: {reason}.")
    raise Wrong(f"{words}.")


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


if __name__ == "__main__":
    main()
