"""A student's nodes and graph of Part 1, whatever their conventions, behind calls that take and give plain values.

It imports the standard library and NumPy alone: it is also loaded by its path, where there is nothing else of the lab.
"""

import contextlib
import copy
import importlib.util
import inspect
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray


class Wrong(Exception):
    """What is wrong with a student's code: what was found and expected, and what it often comes from."""


class StudentNodes:
    """The nodes and the graph in FOLDER/autograd: of this lab (``grads``), or of the course's framework (``grad``,
    ``cache``, ``cal``, ``backcal``, ``Node(name, *params)``).

    Nodes and graphs are numbered in the order in which they are made. Every argument and result is None, a number, a
    text, an array, or a list of these; arrays are copied on the way in and out.

    Raises:
        Wrong: in every method, for an error in the student's code; here, if it cannot be imported.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Any] = []
        self._members: list[list[int]] = []  # of a graph its nodes, of a node itself: what is to be flushed
        self._arrays: list[list[Any]] = []  # the first parameters
        self._of_target: dict[int, Callable[[Any], Any]] = {}  # the losses that are given their target when made
        self._calls: list[int] = []
        self._warned: set[str] = set()
        try:
            with self._errors_in_words():
                self._modules = _import(folder)
        except Wrong as wrong:
            raise Wrong(f"{folder / 'autograd'} cannot be imported: {wrong}") from None

    def make(self, kind: str, *sizes: int) -> int:
        """A new node, "linear", "relu", "sigmoid" or "mse", by its number."""
        with self._errors_in_words():
            cls = _find(self._modules[0], kind)
            names = _parameters(cls)
            name = [kind] if names[:1] == ["name"] else []
            of_target = kind == "mse" and names[len(name) :] and len(_parameters(_method(cls, "cal", "forward"))) == 2
            node = None if of_target else cls(*name, *sizes)
            if of_target:
                self._of_target[len(self._made)] = lambda target: cls(*name, target)
        return self._add(node)

    def make_step(self, param: Array | None) -> int:
        """A new node that is right, y = (x + param)^2, or y = -x without one."""
        return self._add(Step(len(self._made), self._calls, *([] if param is None else [param.copy()])))

    def make_graph(self, nodes: list[int]) -> int:
        """A new graph of these nodes; forward and backward take its number, too."""
        with self._errors_in_words():
            graph = _find(self._modules[1], "graph")([self._made[node] for node in nodes])
        return self._add(graph, nodes)

    def _add(self, node: Any, members: list[int] | None = None) -> int:
        self._made.append(node)
        self._members.append(members or [len(self._made) - 1])
        self._arrays.append(list(getattr(node, "params", [])))
        return len(self._made) - 1

    def forward(self, node: int, *inputs: Array) -> Array:
        """y, of a node that is flushed before, or of a graph of such nodes."""
        with self._errors_in_words():
            for member in self._members[node]:
                if hasattr(self._made[member], "flush"):
                    self._made[member].flush()
            if node in self._of_target:
                self._made[node] = self._of_target[node](inputs[1].copy())
                inputs = inputs[:1]
            y = self._call(node, ("forward", "cal"), "x", inputs)
            if y is None:
                raise Wrong("forward returns nothing")
            return y

    def forward_again(self, node: int, *inputs: Array) -> Array | None:
        """y as in a training that does not flush; the course's nodes, which keep every gradient until then, need it."""
        if not hasattr(self._made[node], "grads"):
            return self.forward(node, *inputs)
        with self._errors_in_words():
            return self._call(node, ("forward", "cal"), "x", inputs)

    def backward(self, node: int, *grad: Array) -> Array | None:
        """dL/dx of the latest forward. Of a loss it takes no ``grad``; the student's is given 1 if it needs one."""
        with self._errors_in_words(node):
            parameters = inspect.signature(_method(self._made[node], "backward", "backcal")).parameters.values()
            needed = any(each.default is each.empty for each in parameters)
            return self._call(node, ("backward", "backcal"), "grad", grad or ((1.0,) if needed else ()))

    def _call(self, node: int, names: tuple[str, str], of: str, arrays: tuple[Any, ...]) -> Array | None:
        copies = copy.deepcopy(arrays)
        found = _plain(_method(self._made[node], *names)(*copies), f"what {names[0]} returns")
        if not all(map(np.array_equal, copies, arrays)):
            raise Wrong(f"{names[0]} changes the array {of} that it is given: it should make a new one")
        return found

    def params(self, node: int) -> list[Array | None]:
        """The parameters as they are now."""
        with self._errors_in_words():
            return [_plain(param, "params") for param in self._made[node].params]

    def set_params(self, node: int, arrays: list[Array]) -> None:
        """Sets the parameters, also of a node that computes with the arrays it was made with, under another name."""
        with self._errors_in_words():
            for param, array in zip(self._arrays[node], arrays, strict=True):
                param[...] = array
            with contextlib.suppress(AttributeError):  # a property
                self._made[node].params = [array.copy() for array in arrays]

    def grads(self, node: int) -> list[Array | None]:
        """The gradients of the parameters, after backward."""
        with self._errors_in_words():
            each = self._made[node]
            return [_plain(grad, "the gradients") for grad in (each.grads if hasattr(each, "grads") else each.grad)]

    def optimstep(self, graph: int, lr: float) -> None:
        with self._errors_in_words():
            self._made[graph].optimstep(lr)

    def calls(self) -> list[int]:
        """The nodes of ``make_step`` whose backward was called, in that order."""
        return list(self._calls)

    def warnings(self) -> list[str]:
        """What NumPy has warned of since the latest call, such as "overflow"."""
        warned, self._warned = sorted(self._warned), set()
        return warned

    @contextlib.contextmanager
    def _errors_in_words(self, node: int | None = None) -> Iterator[None]:
        """``node``: whose backward is called, after its forward."""
        try:
            with np.errstate(all="call", call=lambda kind, _: self._warned.add(kind)):
                yield
        except Wrong:
            raise
        except (Exception, SystemExit) as error:
            words = in_words(error, self._folder)
            if node is not None and self._members[node] == [node] and _kept_nothing(error, self._made[node], words):
                words = f"forward does not keep what backward needs.\n{words}"
            raise Wrong(words) from None


class Step:
    """A node for the check of the graph, y = (x + p)^2 or y = -x, with the names of this lab and of the course.

    Attributes:
        calls: where backward was called, the numbers of the nodes; shared by all nodes.
    """

    def __init__(self, number: int, calls: list[int], *params: Array) -> None:
        self.number, self.calls, self.params, self.name = number, calls, list(params), "step"
        self.grads: list[Array] = []
        self.grad, self.cache = self.grads, self.grads

    def forward(self, x: Array, *_: Any, **__: Any) -> Array:
        self.sum = sum(self.params, x)
        return self.sum**2 if self.params else -x

    def backward(self, grad: Array, *_: Any, **__: Any) -> Array:
        self.calls.append(self.number)
        dx = 2 * self.sum * grad if self.params else -grad
        self.grads[:] = [dx] * len(self.params)
        return dx

    cal, backcal = forward, backward

    def flush(self) -> None:
        self.grads.clear()


def _import(folder: Path) -> tuple[Any, Any]:
    """The modules autograd.Nodes and autograd.BaseGraph of a folder, with or without __init__.py."""
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
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "autograd"]:
            del sys.modules[name]
        sys.modules.update(kept)


def _find(module: Any, kind: str) -> Any:
    """The class of this name, in whatever case, as in MyLinear, linear_layer, MSELoss or BaseGraph."""
    pattern = "layer|node|loss|^base|^my|_"
    named = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type) and re.sub(pattern, "", name.lower()) == kind
    ]
    for cls in named:
        if not any(other is not cls and issubclass(other, cls) for other in named):  # MyLinear(Linear) is meant
            return cls
    raise Wrong(f"no such class in {Path(module.__file__).name}")


def _parameters(function: Any) -> list[str]:
    """The names of the arguments by position, but for the course's ``debug``."""
    by_position = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind in by_position and each.name != "debug"]


def _method(node: Any, *names: str) -> Any:
    """The first of these methods that there is."""
    for name in names:
        if hasattr(node, name):
            return getattr(node, name)
    raise Wrong(f"it has no method {names[0]}")


def _plain(value: Any, what: str) -> Array | None:
    """A copy as an array of numbers; None stays None."""
    try:
        array = np.array(value)
    except Exception:
        array = np.array("")
    if value is not None and array.dtype.kind not in "biuf":
        raise Wrong(f"{what}: found {type(value).__name__}, expected an array of numbers")
    return None if value is None else array


def _kept_nothing(error: BaseException, node: Any, words: str) -> bool:
    """Whether an error of backward, in words with its line, comes from what forward has not saved."""
    kept = [value for name, value in getattr(node, "__dict__", {}).items() if name not in ("params", "grad", "grads")]
    return (
        (isinstance(error, RuntimeError) and "before forward" in str(error))
        or (isinstance(error, IndexError) and any(isinstance(value, list) and not value for value in kept))
        or (isinstance(error, AttributeError) and error.obj is node and f"{error.name}(" not in words)
        or ("NoneType" in str(error) and any(value is None for value in kept))
    )


def place_of(error: BaseException, folder: Path) -> str:
    """The line in FOLDER/autograd that an error comes from, with a line break; "" if there is none."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if str(folder / "autograd") in each.filename]
    frames = [each for each in frames if "BaseNode" not in each.filename] or frames  # the node, and not what it calls
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line}\n" if frames else ""


def in_words(error: BaseException, folder: Path) -> str:
    """An error in the student's code, with the line that it comes from; what ``Wrong`` says, as it is."""
    if isinstance(error, Wrong):
        return str(error)
    if isinstance(error, NotImplementedError):
        return f"not written yet: {error}".rstrip(": ")
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '').name}, line {error.lineno}: {error.msg}"
    if isinstance(error, SystemExit):
        return f"{place_of(error, folder)}It calls exit(): take that out."
    shapes = isinstance(error, ValueError) and re.search("shape|dimension|broadcast|aligned", str(error))
    hint = "\nOften: a transpose is missing, or factors are in the wrong order." if shapes else ""
    return f"{place_of(error, folder)}{type(error).__name__}: {error}{hint}"
